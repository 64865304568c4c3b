//! The report's tables: a group of rows for each cell, a row for each path.

use std::fmt::Write as _;

use super::markup::{escape, number, number_or_dash, ratio_or_dash};
use super::rows::{EVENTS, Row, Rows, Unit, ratio};
use crate::spread::Spread;

/// What ratios are to.
const BASE: &str = "monolithic";

/// Rates with their spreads, instructions, and both as ratios to the path in the kernel; losses if datagrams were sent.
pub fn rates(rows: &Rows, nic: &str) -> String {
    let mut heads = vec![
        "median rate",
        "least to most",
        "rate / monolithic",
        "instructions",
        "least to most",
        "instr. / monolithic",
    ];
    let losses = rows.rows.iter().any(|row| row.nic == nic && row.lost.is_some());
    heads.extend(losses.then_some("lost"));
    let spread = |spread: Option<Spread>| {
        let show =
            |spread: Spread| format!("{} … {} ({}×)", number(spread.min), number(spread.max), spread.count);
        spread.filter(|spread| spread.count > 1).map_or_else(|| "–".to_owned(), show)
    };
    table(rows, nic, &heads, |row, cell| {
        let base = rows.find(nic, cell, BASE);
        let rate = row.good_rate();
        let base_rate = base.and_then(Row::good_rate).map(|rate| rate.median);
        let per = if row.unit == Unit::Bytes { "KiB" } else { "trans." };
        let mut figures = vec![
            rate.map_or("–".into(), |rate| format!("{} {}", number(rate.median), row.unit.rate())),
            spread(rate),
            ratio_or_dash(ratio(rate.map(|rate| rate.median), base_rate)),
            row.instructions.map_or("–".into(), |count| format!("{}/{per}", number(count))),
            spread(row.costs),
            ratio_or_dash(ratio(row.instructions, base.and_then(Row::good_instructions))),
        ];
        if losses {
            figures.push(row.lost.map_or("–".into(), |part| format!("{:.1} %", 100.0 * part)));
        }
        figures
    })
}

/// Copies, traps and the like, per KiB or per transaction.
pub fn events(rows: &Rows, nic: &str) -> String {
    let heads: Vec<&str> = ["frames"].into_iter().chain(EVENTS.map(|(_, words)| words)).collect();
    let table = table(rows, nic, &heads, |row, _| {
        [row.frames].iter().chain(&row.events).map(|count| number_or_dash(*count)).collect()
    });
    format!("<p class=\"soft\">Per KiB; per transaction where requests are answered.</p>\n{table}")
}

fn table(rows: &Rows, nic: &str, heads: &[&str], figures: impl Fn(&Row, &str) -> Vec<String>) -> String {
    let mut out =
        String::from("<div class=\"wide\">\n<table>\n<thead><tr><th>cell</th><th class=\"name\">path</th>");
    heads.iter().for_each(|head| out += &format!("<th>{head}</th>"));
    out += "</tr></thead>\n<tbody>\n";
    let paths = rows.paths(nic);
    for cell in rows.cells(nic) {
        for (n, path) in paths.iter().enumerate() {
            let (class, head) = if n == 0 { (" class=\"first\"", escape(cell)) } else { ("", String::new()) };
            let _ = write!(out, "<tr{class}><th>{head}</th><td class=\"name\">{}</td>", escape(path));
            match rows.find(nic, cell, path) {
                None => {
                    let _ = write!(out, "<td class=\"none\" colspan=\"{}\">not measured</td>", heads.len());
                }
                Some(Row { problem: Some(problem), .. }) => {
                    let _ = write!(
                        out,
                        "<td class=\"wrong\" colspan=\"{}\">wrong: {}</td>",
                        heads.len(),
                        escape(problem)
                    );
                }
                Some(row) => figures(row, cell)
                    .iter()
                    .for_each(|figure| out += &format!("<td>{}</td>", escape(figure))),
            }
            out += "</tr>\n";
        }
    }
    out += "</tbody>\n</table>\n</div>\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn ratios_are_to_the_kernels_path() {
        let rows = Rows::of(&example()).unwrap();
        let table = rates(&rows, "e1000");
        let window = "<td class=\"name\">window</td><td>75.0 MB/s</td><td>70.0 … 80.0 (3×)</td><td>0.75</td><td>2200/KiB</td><td>–</td><td>1.10</td>";
        assert!(table.contains(window), "{table}");
        // rr1 has no monolithic row.
        assert!(
            table.contains("<td>3000 /s</td><td>–</td><td>–</td><td>9100/trans.</td><td>–</td><td>–</td>"),
            "{table}"
        );
        assert_eq!(table.matches("not measured").count(), 5);
        assert_eq!(table.matches("wrong: ").count(), 1);
    }

    #[test]
    fn events_are_per_unit_or_a_dash() {
        let table = events(&Rows::of(&example()).unwrap(), "e1000");
        assert!(table.contains("<td>1.00</td><td>2.00</td><td>2048</td><td>0.50</td><td>–</td>"), "{table}");
    }
}
