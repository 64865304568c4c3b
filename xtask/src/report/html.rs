//! The report as one page of HTML that needs nothing else: no script, no network, light and dark, fit for paper.
//!
//! `rows` reads the figures, `bars` and `stack` draw them, `tables` sets them, `paper` says what Reynolds and Heller found.

use std::fmt::Write as _;

use super::markup::escape;
use super::paper::{PARTS, part_of};
use super::rows::Rows;
use super::style::{SHEET, category_class};
use super::{bars, stack, tables};
use crate::profile::category::Category;

/// The page.
pub fn page(rows: &Rows) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Oriel: what each path to the network costs</title>\n<style>\n{SHEET}</style>\n</head>\n<body>\n"
    );
    out += "<h1>What each path to the network costs</h1>\n\
            <p class=\"lead\">The same driver, stack, sockets and applications on each path: in the kernel (monolithic), in a \
            server that gets frames as messages (ipc), in a server that shares a window of memory with the driver (window). Reynolds \
            and Heller compared these three in 1991; their results stand beside ours.</p>\n";
    for nic in rows.nics() {
        device(&mut out, rows, nic);
    }
    about(&mut out, rows);
    out += "</body>\n</html>\n";
    out
}

fn device(out: &mut String, rows: &Rows, nic: &str) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(nic));
    let cells = rows.cells(nic);
    let of_part =
        |part: usize| -> Vec<&str> { cells.iter().filter(|cell| part_of(cell) == part).copied().collect() };
    let parts: Vec<_> = PARTS
        .iter()
        .enumerate()
        .map(|(n, part)| (part, of_part(n)))
        .filter(|(_, cells)| !cells.is_empty())
        .collect();
    for (part, cells) in &parts {
        let _ = writeln!(out, "<h3>{}</h3>", part.title);
        if !part.statement.is_empty() {
            let _ = writeln!(
                out,
                "<blockquote><b>Reynolds and Heller, “Network Performance”:</b> {}</blockquote>",
                escape(part.statement)
            );
        }
        let _ = writeln!(out, "<figure>\n{}</figure>", bars::chart(rows, nic, cells, part.title));
    }
    let _ = writeln!(out, "<h3>Medians, spreads and ratios</h3>\n{}", tables::rates(rows, nic));
    out.push_str("<h3>Where the instructions go</h3>\n");
    out.push_str(
        "<p class=\"soft\">Instructions of the guest, kernel and tasks, without idle time. Within a cell, lengths can be compared.</p>\n",
    );
    key(out);
    for (part, cells) in &parts {
        let chart = stack::chart(rows, nic, cells, part.title);
        if !chart.is_empty() {
            let _ = writeln!(out, "<figure>\n{chart}</figure>");
        }
    }
    let _ = writeln!(out, "<h3>What else happened</h3>\n{}", tables::events(rows, nic));
}

fn key(out: &mut String) {
    out.push_str("<ul class=\"key\">");
    for category in Category::ALL {
        let _ = write!(out, "<li><i class=\"{}\"></i>{}</li>", category_class(category), category.name());
    }
    out.push_str("</ul>\n");
}

fn about(out: &mut String, rows: &Rows) {
    out.push_str("<h2>How it was measured</h2>\n");
    if rows.about.is_empty() {
        out.push_str("<p>The file says nothing about the machine, the date and the command.</p>\n");
    } else {
        out.push_str("<dl>\n");
        for (name, words) in &rows.about {
            let words = escape(words);
            let words = if name == "command" { format!("<code>{words}</code>") } else { words };
            let _ = writeln!(out, "<dt>{}</dt><dd>{words}</dd>", escape(&name.replace('_', " ")));
        }
        out.push_str("</dl>\n");
    }
    out.push_str(
        "<p class=\"soft\">A bench takes rates and instructions from different boots, since counting slows the machine down. Rates are medians, and \
         depend on the host and on what else it did; instruction counts hardly do. The emulator’s time isn’t that of a real machine: it \
         makes system calls and changes of the address space dear in other proportions. “Missing” means not measured, never zero.</p>\n",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn the_page_is_self_contained_and_escaped() {
        let page = page(&Rows::of(&example()).unwrap());
        for outside in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("A &lt;small&gt; &amp; &quot;old&quot; one") && !page.contains("<small>"));
        assert!(page.contains("the digests &lt;differ&gt;") && !page.contains("<differ>"));
        assert!(page.contains("<code>cargo xtask bench --json a&amp;b</code>"));
        assert!(page.contains("wins back about half"));
    }

    #[test]
    fn elements_are_closed() {
        let page = page(&Rows::of(&example()).unwrap());
        for element in [
            "html",
            "head",
            "body",
            "style",
            "svg",
            "text",
            "tspan",
            "table",
            "tr",
            "figure",
            "dl",
            "ul",
            "blockquote",
        ] {
            let open =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(open, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    /// The whole page of a small file. After a change that is meant, write it anew: `UPDATE_GOLDEN=1 cargo test -p xtask golden`.
    #[test]
    fn golden() {
        crate::report::golden("report.html", &page(&Rows::of(&example()).unwrap()));
    }
}
