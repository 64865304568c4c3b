//! The livelock curves as a drawing that stands alone: useful work against what was offered, a panel for each kind of useless frame.

use std::fmt::Write as _;

use crate::report::markup::{escape, number, px};
use crate::report::style::path_colour;

/// A line of the drawing.
pub struct Curve {
    /// What the frames are: curves with the same words are in the same panel.
    pub panel: &'static str,
    /// The path's name, which has a colour.
    pub path: &'static str,
    /// The network device.
    pub nic: String,
    /// To tell one device from another on the same path.
    pub dashed: bool,
    /// Frames offered, answers; both a second.
    pub points: Vec<(f64, f64)>,
}

/// A panel's plot.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
/// The first one's left edge, and the upper edge of all.
const LEFT: f64 = 50.0;
const TOP: f64 = 62.0;
/// Between two of them.
const GAP: f64 = 64.0;
/// Behind the last, for half of the widest number.
const MARGIN: f64 = 36.0;
/// The lines of the legend: the first one's middle, and from one to the next.
const LEGEND: f64 = TOP + HEIGHT + 66.0;
const LEGEND_STEP: f64 = 190.0;
/// Reads on white and on the dark of code-hosting sites alike.
const GREY: &str = "#767676";

/// Draws them: offered frames to the right by powers of two, since what matters is many times more.
pub fn plot(curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let most = ceiling(points().map(|(_, y)| *y).fold(1.0, f64::max));
    let widest = points().map(|(x, _)| scale(*x)).fold(1.0, f64::max);
    let mut panels: Vec<&str> = Vec::new();
    for curve in curves {
        if !panels.contains(&curve.panel) {
            panels.push(curve.panel);
        }
    }
    let width = LEFT + panels.len().max(1) as f64 * (WIDTH + GAP) - GAP + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12.5\" fill=\"{GREY}\">\n\
         <title>Requests answered while useless frames come</title>\n\
         <text x=\"0\" y=\"18\" font-size=\"15\" font-weight=\"600\">Requests answered a second, against useless frames offered a second</text>\n",
        px(width),
        px(LEGEND + 14.0)
    );
    for (n, panel) in panels.iter().enumerate() {
        let left = LEFT + n as f64 * (WIDTH + GAP);
        axes(&mut out, left, panel, most, widest);
        for curve in curves.iter().filter(|curve| curve.panel == *panel) {
            line(&mut out, left, curve, most, widest);
        }
    }
    let first = panels.first().copied().unwrap_or_default();
    for (n, curve) in curves.iter().filter(|curve| curve.panel == first).enumerate() {
        let x = LEFT + n as f64 * LEGEND_STEP;
        let _ = writeln!(
            out,
            "<path d=\"M{} {}h24\" {}/><text x=\"{}\" y=\"{}\">{}, {}</text>",
            px(x),
            px(LEGEND),
            stroke(curve),
            px(x + 30.0),
            px(LEGEND + 4.0),
            escape(curve.path),
            escape(&curve.nic)
        );
    }
    out += "</svg>\n";
    out
}

fn axes(out: &mut String, left: f64, panel: &str, most: f64, widest: f64) {
    let bottom = TOP + HEIGHT;
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" font-weight=\"600\">{}</text>\n\
         <path d=\"M{} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"{GREY}\"/>",
        px(left),
        px(TOP - 14.0),
        escape(panel),
        px(left),
        px(left + WIDTH)
    );
    for part in [0.0, 0.5, 1.0] {
        let y = bottom - HEIGHT * part;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            px(left - 8.0),
            px(y + 4.0),
            number(most * part)
        );
    }
    for rate in [0.0, 10.0, 40.0, 160.0, 640.0].map(|thousands| thousands * 1000.0) {
        let x = left + WIDTH * scale(rate) / widest;
        if scale(rate) <= widest {
            let _ = writeln!(
                out,
                "<path d=\"M{} {}v4\" stroke=\"{GREY}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                px(x),
                px(bottom),
                px(x),
                px(bottom + 20.0),
                number(rate)
            );
        }
    }
}

fn line(out: &mut String, left: f64, curve: &Curve, most: f64, widest: f64) {
    let at: Vec<_> = curve
        .points
        .iter()
        .map(|(x, y)| (left + WIDTH * scale(*x) / widest, TOP + HEIGHT - HEIGHT * y / most))
        .map(|(x, y)| format!("{},{}", px(x), px(y)))
        .collect();
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" {}/>", at.join(" "), stroke(curve));
}

fn stroke(curve: &Curve) -> String {
    let dashes = if curve.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    format!("stroke=\"{}\" stroke-width=\"2\" stroke-opacity=\"0.85\"{dashes}", path_colour(curve.path))
}

/// Where a rate is on the axis: its logarithm, but linear near zero, which has a place too.
fn scale(rate: f64) -> f64 {
    (1.0 + rate / 2500.0).log2()
}

/// The axis ends at a number that reads well, above the most there is: a line along the edge would not be seen.
fn ceiling(most: f64) -> f64 {
    let unit = 10_f64.powf(most.log10().floor()) * 2.0;
    unit * (most * 1.04 / unit).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_drawn_inside_its_panel() {
        let curve = |panel, path, dashed| Curve {
            panel,
            path,
            nic: "e1000".to_owned(),
            dashed,
            points: vec![(0.0, 1000.0), (80_000.0, 950.0), (500_000.0, 10.0)],
        };
        let drawing = plot(&[
            curve("closed port", "window", false),
            curve("bad header", "window", false),
            curve("closed port", "ipc", true),
            curve("bad header", "ipc", true),
        ]);
        assert_eq!(
            (drawing.matches("<polyline").count(), drawing.matches("stroke-dasharray").count()),
            (4, 3),
            "four lines, and the dashed path once more in the legend"
        );
        let second = LEFT + WIDTH + GAP;
        let mut in_panel = [0, 0];
        for line in drawing.split("points=\"").skip(1) {
            for pair in line.split('"').next().unwrap().split(' ') {
                let (x, y) = pair.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                let left = if x < second { LEFT } else { second };
                assert!((left..=left + WIDTH).contains(&x) && (TOP..=TOP + HEIGHT).contains(&y), "{pair}");
                in_panel[usize::from(x >= second)] += 1;
            }
        }
        assert_eq!(in_panel, [6, 6]);
    }

    #[test]
    fn the_axis_ends_above_the_most() {
        assert_eq!([0.9, 1.0, 499.0, 1000.0, 1999.0].map(ceiling), [1.0, 2.0, 600.0, 2000.0, 4000.0]);
    }
}
