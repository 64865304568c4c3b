//! The chart for the README: instructions per KiB of each TCP cell and path, in one drawing that stands alone.
//!
//! It has no background and no style sheet. Its grey reads on white and on the dark of code-hosting sites alike.

use std::fmt::Write as _;

use super::markup::{escape, number, px};
use super::rows::{Row, Rows, Unit};
use super::style::path_colour;

const WIDTH: f64 = 880.0;
const COLUMN: f64 = 440.0;
const LABEL: f64 = 96.0;
const PLOT: f64 = 268.0;
const STEP: f64 = 17.0;
const BAR: f64 = 12.0;
const HEADING: f64 = 26.0;
const TOP: f64 = 52.0;
/// 4.6 to 1 on white, 4.1 to 1 on #0d1117.
const GREY: &str = "#767676";

/// The drawing of one device: transmitting on the left, receiving on the right; each cell's dearest path fills the width.
pub fn chart(rows: &Rows, nic: &str) -> String {
    let cells = rows.cells(nic);
    let columns = ["tx", "rx"]
        .map(|start| -> Vec<&str> { cells.iter().filter(|cell| cell.starts_with(start)).copied().collect() });
    let paths = rows.paths(nic);
    let group = HEADING + paths.len() as f64 * STEP;
    let tallest = columns.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let height = TOP + tallest * group + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12.5\" fill=\"{GREY}\">\n\
         <title>Instructions of the guest for each KiB of TCP data, by path to the network</title>\n\
         <text x=\"0\" y=\"18\" font-size=\"15\" font-weight=\"600\">Guest instructions per KiB of TCP data, by path ({})</text>\n",
        px(WIDTH),
        px(height),
        px(WIDTH),
        px(height),
        escape(nic)
    );
    let titles = ["transmitting, by the size of the writes", "receiving, by the size of the reads"];
    for ((column, title), left) in columns.iter().zip(titles).zip([0.0, COLUMN]) {
        let _ = writeln!(out, "<text x=\"{}\" y=\"40\">{title}; shorter is better</text>", px(left));
        for (n, cell) in column.iter().enumerate() {
            draw_cell(&mut out, rows, (nic, cell), &paths, (left, TOP + n as f64 * group));
        }
    }
    out += "</svg>\n";
    out
}

/// The most instructions of a path.
fn most(rows: &Rows, nic: &str, cell: &str) -> Option<f64> {
    let of_cell =
        rows.rows.iter().filter(|row| row.nic == nic && row.cell == cell && row.unit == Unit::Bytes);
    of_cell.filter_map(Row::good_instructions).max_by(f64::total_cmp).filter(|most| *most > 0.0)
}

fn draw_cell(
    out: &mut String,
    rows: &Rows,
    (nic, cell): (&str, &str),
    paths: &[&str],
    (left, top): (f64, f64),
) {
    let size = cell.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" font-weight=\"600\">{} bytes</text>",
        px(left),
        px(top + 19.0),
        escape(size)
    );
    for (n, path) in paths.iter().enumerate() {
        let y = top + HEADING + n as f64 * STEP;
        let text = px(y + 10.5);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>",
            px(left + LABEL - 7.0),
            escape(path)
        );
        let count = rows.find(nic, cell, path).and_then(Row::good_instructions);
        let x = left + LABEL;
        let (Some(count), Some(most)) = (count, most(rows, nic, cell)) else {
            let _ =
                writeln!(out, "<text x=\"{}\" y=\"{text}\" font-style=\"italic\">not measured</text>", px(x));
            continue;
        };
        let wide = PLOT * (count / most).min(1.0);
        let _ = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"1\" fill=\"{}\"/>",
            px(x),
            px(y),
            px(wide),
            px(BAR),
            path_colour(path)
        );
        let _ = writeln!(out, "<text x=\"{}\" y=\"{text}\">{}</text>", px(x + wide + 6.0), number(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn golden() {
        crate::report::golden("report.svg", &chart(&Rows::of(&example()).unwrap(), "e1000"));
    }

    #[test]
    fn what_is_missing_or_wrong_has_no_bar() {
        let chart = chart(&Rows::of(&example()).unwrap(), "e1000");
        assert_eq!((chart.matches("<rect").count(), chart.matches("not measured").count()), (5, 4));
        assert_eq!(chart.matches("10 bytes").count(), 2);
    }
}
