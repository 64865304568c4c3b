//! The paper's bar charts: the rate of each path, normalised to the fastest of the cell, with the spread of its repetitions.
//!
//! Bars lie on their sides, so that each has its name before it and its value behind it, and nobody needs a legend.

use std::fmt::Write as _;

use super::markup::{escape, number, px};
use super::paper::describe;
use super::rows::Rows;
use super::style::path_class;
use crate::spread::Spread;

/// Width of the drawing; it scales with the page.
const WIDTH: f64 = 760.0;
/// Where bars begin.
const LEFT: f64 = 128.0;
/// Where the axis ends.
const RIGHT: f64 = 610.0;
/// From one bar to the next.
const STEP: f64 = 22.0;
/// How thick a bar is.
const BAR: f64 = 15.0;
/// Above each cell's bars.
const HEADING: f64 = 34.0;
/// Below the last bar: the axis.
const AXIS: f64 = 40.0;

/// Where the axis has its marks.
const QUARTERS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// The chart of some cells of a device.
pub fn chart(rows: &Rows, nic: &str, cells: &[&str], title: &str) -> String {
    let paths = rows.paths(nic);
    let height = cells.len() as f64 * (HEADING + paths.len() as f64 * STEP) + AXIS;
    let top_of_axis = height - AXIS;
    let scale = Scale::of(rows, nic, cells);
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
        px(WIDTH),
        px(height),
        escape(&format!("{title}: rates of the paths, the fastest of each cell is 1"))
    );
    scale.draw_axis(&mut out, top_of_axis);
    let mut y = 0.0;
    for cell in cells {
        let fastest = fastest(rows, nic, cell);
        let unit =
            rows.rows.iter().find(|row| row.nic == nic && row.cell == *cell).map(|row| row.unit.rate());
        let one = fastest.map(|rate| format!("1 = {} {}", number(rate), unit.unwrap_or_default()));
        let _ = writeln!(
            out,
            "<text class=\"heading\" x=\"0\" y=\"{}\">{}<tspan class=\"soft\" dx=\"8\">{}</tspan><tspan class=\"soft\" dx=\"14\">{}</tspan></text>",
            px(y + 24.0),
            escape(cell),
            escape(&describe(cell)),
            escape(&one.unwrap_or_default()),
        );
        y += HEADING;
        scale.draw_grid(&mut out, y, y + paths.len() as f64 * STEP);
        for path in &paths {
            draw_bar(
                &mut out,
                y,
                path,
                rows.find(nic, cell, path).map(|row| (row.good_rate(), row.problem.as_deref())),
                fastest,
                &scale,
            );
            y += STEP;
        }
    }
    out += "</svg>\n";
    out
}

/// The best median of a cell.
fn fastest(rows: &Rows, nic: &str, cell: &str) -> Option<f64> {
    let rates =
        rows.rows.iter().filter(|row| row.nic == nic && row.cell == cell).filter_map(|row| row.good_rate());
    rates.map(|rate| rate.median).max_by(f64::total_cmp)
}

type Found<'a> = (Option<Spread>, Option<&'a str>);

fn draw_bar(out: &mut String, y: f64, path: &str, found: Option<Found>, fastest: Option<f64>, scale: &Scale) {
    let middle = y + STEP / 2.0;
    let _ = writeln!(
        out,
        "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
        px(LEFT - 8.0),
        px(middle + 4.0),
        escape(path)
    );
    let (rate, fastest) = match (found, fastest) {
        (Some((Some(rate), _)), Some(fastest)) => (rate, fastest),
        (found, _) => {
            let why = found.and_then(|(_, problem)| problem).map_or("not measured", |_| "wrong data");
            let _ = writeln!(
                out,
                "<text class=\"missing\" x=\"{}\" y=\"{}\">{why}</text>",
                px(LEFT + 6.0),
                px(middle + 4.0)
            );
            return;
        }
    };
    let at = |value: f64| scale.at(value / fastest);
    let _ = writeln!(
        out,
        "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
        path_class(path),
        px(LEFT),
        px(middle - BAR / 2.0),
        px(at(rate.median) - LEFT),
        px(BAR),
        escape(&format!(
            "{path}: {} ({} to {}, {} repetitions)",
            number(rate.median),
            number(rate.min),
            number(rate.max),
            rate.count
        )),
    );
    let (low, high) = (at(rate.min), at(rate.max));
    if rate.count > 1 {
        let (top, bottom) = (px(middle - 4.0), px(middle + 4.0));
        let (low, high, middle) = (px(low), px(high), px(middle));
        let _ = writeln!(
            out,
            "<path class=\"whisker\" d=\"M{low} {middle}H{high}M{low} {top}V{bottom}M{high} {top}V{bottom}\"/>"
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"value\" x=\"{}\" y=\"{}\">{:.2}<tspan class=\"soft\" dx=\"7\">{}</tspan></text>",
        px(high.max(at(rate.median)) + 7.0),
        px(middle + 4.0),
        rate.median / fastest,
        number(rate.median),
    );
}

/// From a part of the fastest to a place on the paper.
struct Scale {
    /// The most that is shown: 1, or where a whisker ends behind it.
    most: f64,
}

impl Scale {
    fn of(rows: &Rows, nic: &str, cells: &[&str]) -> Self {
        let ends = cells.iter().flat_map(|cell| {
            let fastest = fastest(rows, nic, cell);
            let of_cell = rows.rows.iter().filter(move |row| row.nic == nic && row.cell == *cell);
            of_cell.filter_map(move |row| Some(row.good_rate()?.max / fastest?))
        });
        // A wild repetition may leave the drawing rather than squeeze all others.
        Self { most: ends.fold(1.0, f64::max).min(1.5) }
    }

    fn at(&self, part: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * part.min(self.most) / self.most
    }

    /// The lines behind a cell's bars.
    fn draw_grid(&self, out: &mut String, top: f64, bottom: f64) {
        for quarter in QUARTERS {
            let class = if quarter == 0.0 { "axis" } else { "grid" };
            let _ = writeln!(
                out,
                "<path class=\"{class}\" d=\"M{} {}V{}\"/>",
                px(self.at(quarter)),
                px(top),
                px(bottom)
            );
        }
    }

    fn draw_axis(&self, out: &mut String, top: f64) {
        for quarter in QUARTERS {
            let _ = writeln!(
                out,
                "<text class=\"tick\" x=\"{}\" y=\"{}\">{quarter}</text>",
                px(self.at(quarter)),
                px(top + 16.0)
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"tick\" x=\"{}\" y=\"{}\">rate, as a part of the fastest path’s; the line across a bar’s end: least to most of its repetitions</text>",
            px((LEFT + RIGHT) / 2.0),
            px(top + 34.0)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn bars_have_their_lengths_and_what_is_missing_has_none() {
        let rows = Rows::of(&example()).unwrap();
        let chart = chart(&rows, "e1000", &["tx10", "tx8192"], "ttcp");
        // tx8192: 100, 31 and 75 of at most 110; tx10: 50 and 60 and nothing.
        let width = |part: f64| px(Scale { most: 1.1 }.at(part) - LEFT);
        for part in [1.0, 0.31, 0.75, 50.0 / 60.0] {
            assert!(chart.contains(&format!("width=\"{}\"", width(part))), "{part}\n{chart}");
        }
        assert_eq!(chart.matches("<rect").count(), 5);
        assert_eq!(chart.matches("not measured").count(), 1);
        assert_eq!(chart.matches("whisker").count(), 5);
        assert!(chart.contains("1 = 100 MB/s") && chart.contains("1 = 60.0 MB/s"));
    }

    #[test]
    fn wrong_data_is_no_bar() {
        let rows = Rows::of(&example()).unwrap();
        let chart = chart(&rows, "e1000", &["rx10"], "ttcp");
        assert_eq!((chart.matches("<rect").count(), chart.matches("wrong data").count()), (0, 1));
        assert_eq!(chart.matches("not measured").count(), 2);
    }
}
