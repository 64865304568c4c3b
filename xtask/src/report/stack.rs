//! Where the instructions go: a bar for each path of a cell, divided by category; the cell's dearest path fills the width.

use std::fmt::Write as _;

use super::markup::{escape, number, px};
use super::paper::describe;
use super::rows::{Row, Rows, Unit};
use super::style::{category_class, is_dark};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 128.0;
const RIGHT: f64 = 690.0;
const STEP: f64 = 26.0;
const BAR: f64 = 20.0;
const HEADING: f64 = 34.0;
/// What a letter of a label inside a bar takes.
const LETTER: f64 = 6.2;

/// The chart of some cells; empty if none of them was counted.
pub fn chart(rows: &Rows, nic: &str, cells: &[&str], title: &str) -> String {
    let counted = |cell: &&&str| {
        rows.rows.iter().any(|row| row.nic == nic && row.cell == **cell && row.instructions.is_some())
    };
    let cells: Vec<&str> = cells.iter().filter(counted).copied().collect();
    if cells.is_empty() {
        return String::new();
    }
    let paths = rows.paths(nic);
    let height = cells.len() as f64 * (HEADING + paths.len() as f64 * STEP) + 6.0;
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
        px(WIDTH),
        px(height),
        escape(&format!("{title}: instructions of each path, by what they were for"))
    );
    let mut y = 0.0;
    for cell in cells {
        // If all its data was wrong, the cell has names and reasons, and no bar.
        let (most, unit) = dearest(rows, nic, cell).unwrap_or((1.0, Unit::Bytes));
        let _ = writeln!(
            out,
            "<text class=\"heading\" x=\"0\" y=\"{}\">{}<tspan class=\"soft\" dx=\"8\">{}</tspan><tspan class=\"soft\" dx=\"14\">instructions per {}</tspan></text>",
            px(y + 24.0),
            escape(cell),
            escape(&describe(cell)),
            unit.per(),
        );
        y += HEADING;
        for path in &paths {
            let _ = writeln!(
                out,
                "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
                px(LEFT - 8.0),
                px(y + STEP / 2.0 + 4.0),
                escape(path)
            );
            draw_row(&mut out, y + STEP / 2.0, rows.find(nic, cell, path), most);
            y += STEP;
        }
    }
    out += "</svg>\n";
    out
}

/// The most instructions of a path, and their unit.
fn dearest(rows: &Rows, nic: &str, cell: &str) -> Option<(f64, Unit)> {
    let of_cell = rows.rows.iter().filter(|row| row.nic == nic && row.cell == cell);
    let counts = of_cell.filter_map(|row| Some((row.good_instructions()?, row.unit)));
    counts.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(most, _)| *most > 0.0)
}

fn draw_row(out: &mut String, middle: f64, row: Option<&Row>, most: f64) {
    let baseline = px(middle + 4.0);
    let Some((row, total)) = row.and_then(|row| Some((row, row.good_instructions()?))) else {
        let why = if row.is_some_and(|row| row.problem.is_some()) { "wrong data" } else { "not measured" };
        let _ =
            writeln!(out, "<text class=\"missing\" x=\"{}\" y=\"{baseline}\">{why}</text>", px(LEFT + 6.0));
        return;
    };
    let width = |count: f64| (RIGHT - LEFT) * count / most;
    let top = px(middle - BAR / 2.0);
    match &row.split {
        Some(split) => {
            let mut x = LEFT;
            for (category, count) in split.iter().filter(|(_, count)| *count > 0.0) {
                let (name, wide) = (category.name(), width(*count));
                let percent = 100.0 * count / total;
                let words = escape(&format!("{name}: {} ({percent:.1} %)", number(*count)));
                let _ = writeln!(
                    out,
                    "<rect class=\"part {}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\"><title>{words}</title></rect>",
                    category_class(*category),
                    px(x),
                    px(wide),
                    px(BAR),
                );
                if wide > LETTER * name.len() as f64 + 8.0 {
                    let class = if is_dark(*category) { "inside" } else { "inside dark" };
                    let _ = writeln!(
                        out,
                        "<text class=\"{class}\" x=\"{}\" y=\"{baseline}\">{name}</text>",
                        px(x + wide / 2.0)
                    );
                }
                x += wide;
            }
        }
        None => {
            let _ = writeln!(
                out,
                "<rect class=\"whole\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\"/>\n<text class=\"missing\" x=\"{}\" y=\"{baseline}\">not divided</text>",
                px(LEFT),
                px(width(total)),
                px(BAR),
                px(LEFT + 6.0),
            );
        }
    }
    let _ = writeln!(
        out,
        "<text class=\"value\" x=\"{}\" y=\"{baseline}\">{}</text>",
        px(LEFT + width(total) + 7.0),
        number(total)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn parts_fill_the_bar_and_the_dearest_fills_the_width() {
        let rows = Rows::of(&example()).unwrap();
        let chart = chart(&rows, "e1000", &["tx8192"], "ttcp");
        let full = RIGHT - LEFT;
        for count in [800.0, 1200.0, 2000.0] {
            assert!(chart.contains(&format!("width=\"{}\"", px(full * count / 4000.0))), "{count}\n{chart}");
        }
        assert_eq!(chart.matches("<rect").count(), 9);
        assert!(chart.contains("stack: 1000 (50.0 %)") && chart.contains(">4000</text>"));
    }

    #[test]
    fn uncounted_and_undivided_are_said_to_be() {
        let rows = Rows::of(&example()).unwrap();
        let rr = chart(&rows, "e1000", &["rr1"], "rr");
        assert_eq!((rr.matches("not divided").count(), rr.matches("not measured").count()), (1, 2));
        assert!(rr.contains("instructions per transaction"));
        assert_eq!(chart(&rows, "e1000", &["nothing"], "x"), "");
    }
}
