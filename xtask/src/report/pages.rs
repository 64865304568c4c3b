//! `cargo xtask report`: the page and the chart, from JSON files or from rows that were just measured.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::rows::Rows;
use super::{about, check_writable, html, svg, write_json};
use crate::cli::{PageArgs, ReportArgs};
use crate::error::{Context as _, Error, Result, failed};

/// Runs the command.
pub fn report(args: &ReportArgs) -> Result<()> {
    if args.pages.html.is_none() && args.pages.svg.is_none() {
        return Err(Error::Usage("say what to write: --html FILE, --svg FILE or both".into()));
    }
    let mut rows = Vec::new();
    for file in &args.files {
        let text = fs::read_to_string(file).context(file.display())?;
        match serde_json::from_str(&text).context(file.display())? {
            Value::Array(values) => rows.extend(values),
            _ => return failed(format!("{} holds no list of rows", file.display())),
        }
    }
    write_pages(&rows, &args.pages)
}

/// Writes all files that are asked for, from rows that were just measured.
pub fn write_results(mut rows: Vec<Value>, json: Option<&Path>, pages: &PageArgs) -> Result<()> {
    about::add(&mut rows);
    write_pages(&rows, pages)?;
    json.map_or(Ok(()), |file| write_json(file, rows))
}

impl PageArgs {
    /// Fails before anything is measured if a page could not be written after it.
    pub fn check_writable(&self) -> Result<()> {
        check_writable(self.html.as_deref())?;
        check_writable(self.svg.as_deref())
    }
}

/// Writes the pages that are asked for, from rows as the JSON file has them.
fn write_pages(rows: &[Value], pages: &PageArgs) -> Result<()> {
    if pages.html.is_none() && pages.svg.is_none() {
        return Ok(());
    }
    let rows = Rows::of(rows)?;
    pages.check_writable()?;
    if let Some(file) = &pages.html {
        fs::write(file, html::page(&rows)).context(file.display())?;
    }
    if let Some(file) = &pages.svg {
        let nic = rows.nics().first().copied().unwrap_or_default().to_owned();
        fs::write(file, svg::chart(&rows, &nic)).context(file.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::tests::example;

    #[test]
    fn files_become_pages() {
        let folder = temp_dir::TempDir::new().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("a.json"), Value::Array(example()).to_string()).unwrap();
        let pages = PageArgs { html: Some(file("a.html")), svg: Some(file("a.svg")) };
        report(&ReportArgs { files: vec![file("a.json")], pages: pages.clone() }).unwrap();
        assert!(fs::read_to_string(file("a.html")).unwrap().starts_with("<!doctype html>"));
        assert!(fs::read_to_string(file("a.svg")).unwrap().starts_with("<svg "));
        fs::write(file("b.json"), "{}").unwrap();
        assert!(report(&ReportArgs { files: vec![file("b.json")], pages: pages.clone() }).is_err());
        assert!(report(&ReportArgs { files: vec![file("none.json")], pages }).is_err());
        let nothing = PageArgs { html: None, svg: None };
        assert!(matches!(report(&ReportArgs { files: vec![], pages: nothing }), Err(Error::Usage(_))));
    }
}
