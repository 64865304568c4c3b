//! Text and numbers as HTML and SVG have them.

/// The text with what means something in markup replaced.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Three digits that matter, thousands apart: `0.037`, `9.98`, `104`, `13 281`.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        ..0.1 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), ""), |(whole, rest)| (whole, rest));
    if whole.trim_start_matches('-').len() < 5 {
        return plain;
    }
    let mut grouped = String::new();
    for (n, c) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 && whole.as_bytes()[n - 1] != b'-' {
            grouped.push('\u{202f}');
        }
        grouped.push(c);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// The number, or a dash.
pub fn number_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// A ratio: two digits behind the point.
pub fn ratio_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

/// A length in a drawing: a tenth of a pixel is enough.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert_eq!(escape("plain: ä"), "plain: ä");
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.0371, 0.5, 9.984, 52.53, 104.4, 2142.3, 13281.0, 1_234_567.0].map(number);
        assert_eq!(
            all,
            ["0", "0.037", "0.50", "9.98", "52.5", "104", "2142", "13\u{202f}281", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!((number_or_dash(None), ratio_or_dash(Some(1.0 / 3.0))), ("–".into(), "0.33".into()));
        assert_eq!((px(10.0), px(0.26)), ("10".into(), "0.3".into()));
    }
}
