//! The livelock curves as a drawing that stands alone: useful work against what was offered.

use std::fmt::Write as _;

use crate::report::markup::{escape, number, px};
use crate::report::style::path_colour;

/// A line of the drawing.
pub struct Curve {
    /// The path's name, which has a colour.
    pub path: &'static str,
    /// Frames that the driver drops, rather than the stack.
    pub dashed: bool,
    /// Frames offered, answers; both a second.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 380.0;
/// The plot's edges.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 330.0;
/// Reads on white and on the dark of code-hosting sites alike.
const GREY: &str = "#767676";

/// Draws them: offered frames to the right by powers of two, since what matters is many times more.
pub fn plot(curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let most = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let widest = points().map(|(x, _)| scale(*x)).fold(1.0, f64::max);
    let at =
        |(x, y): (f64, f64)| (LEFT + (RIGHT - LEFT) * scale(x) / widest, BOTTOM - (BOTTOM - TOP) * y / most);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12.5\" fill=\"{GREY}\">\n\
         <title>Requests answered while useless frames come</title>\n\
         <text x=\"0\" y=\"18\" font-size=\"15\" font-weight=\"600\">Requests answered a second, against useless frames offered a second</text>\n\
         <path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"{GREY}\"/>\n"
    );
    for part in [0.0, 0.5, 1.0] {
        let (_, y) = at((0.0, most * part));
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            px(LEFT - 8.0),
            px(y + 4.0),
            number(most * part)
        );
    }
    for thousands in
        [0.0, 10.0, 40.0, 160.0, 640.0].map(|n| n * 1000.0).into_iter().filter(|x| scale(*x) <= widest)
    {
        let (x, _) = at((thousands, 0.0));
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            px(x),
            px(BOTTOM + 20.0),
            number(thousands)
        );
    }
    for (n, curve) in curves.iter().enumerate() {
        let line: Vec<_> = curve
            .points
            .iter()
            .map(|point| at(*point))
            .map(|(x, y)| format!("{},{}", px(x), px(y)))
            .collect();
        let (colour, dashes) =
            (path_colour(curve.path), if curve.dashed { " stroke-dasharray=\"5 4\"" } else { "" });
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            line.join(" ")
        );
        let y = TOP + 18.0 * n as f64;
        let what = if curve.dashed { "bad header" } else { "closed port" };
        let _ = writeln!(
            out,
            "<path d=\"M{} {}h24\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/><text x=\"{}\" y=\"{}\">{}, {what}</text>",
            px(RIGHT + 14.0),
            px(y),
            px(RIGHT + 44.0),
            px(y + 4.0),
            escape(curve.path)
        );
    }
    out += "</svg>\n";
    out
}

/// Where a rate is on the axis: its logarithm, but linear near zero, which has a place too.
fn scale(rate: f64) -> f64 {
    (1.0 + rate / 2500.0).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_drawn_inside() {
        let curve = |path, dashed| Curve {
            path,
            dashed,
            points: vec![(0.0, 1000.0), (80_000.0, 950.0), (500_000.0, 10.0)],
        };
        let drawing = plot(&[curve("window", false), curve("ipc", true)]);
        assert_eq!(
            (drawing.matches("<polyline").count(), drawing.matches("stroke-dasharray").count()),
            (2, 2)
        );
        for pair in
            drawing.split("points=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split(' '))
        {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{pair}");
        }
    }
}
