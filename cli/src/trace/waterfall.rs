//! Steps as bars, each where it began and as long as it took.

/// The width of the longest possible bar, in characters.
const WIDTH: usize = 40;

/// A step. Without a time it did not end.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) from_ms: f64,
    pub(super) ms: Option<f64>,
}

/// Returns a line for each step, under a head that says what its numbers are. All share one scale.
pub(super) fn drawn(bars: &[Bar]) -> String {
    let end = |bar: &Bar| bar.from_ms + bar.ms.unwrap_or_default();
    let total = bars.iter().map(end).fold(0.0, f64::max);
    let mut lines = vec![format!("{:>10} {:>10}", "FROM (ms)", "TOOK (ms)")];
    for bar in bars {
        let took = bar.ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let drawn = bar.ms.map(|ms| cells(bar.from_ms, ms, total)).unwrap_or_default();
        lines.push(format!("{:>10.1} {took:>10}  |{drawn:<WIDTH$}|  {}", bar.from_ms, bar.label));
    }
    lines.join("\n")
}

/// Returns the bar of a step, of at least one cell.
fn cells(from: f64, took: f64, total: f64) -> String {
    let at = |ms: f64| if total > 0.0 { ms / total * WIDTH as f64 } else { 0.0 };
    let first = (at(from).floor() as usize).min(WIDTH - 1);
    let last = (at(from + took).ceil() as usize).clamp(first + 1, WIDTH);
    format!("{}{}", " ".repeat(first), "=".repeat(last - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_a_scale_and_the_shortest_is_seen() {
        let bar = |from_ms, ms| Bar { label: "step".to_owned(), from_ms, ms };
        let text =
            drawn(&[bar(0.0, Some(100.0)), bar(50.0, Some(25.0)), bar(100.0, Some(0.0)), bar(0.0, None)]);
        let lines: Vec<&str> = text.lines().collect();
        let field = |line: &str| line.split('|').nth(1).expect("a bar").to_owned();
        assert_eq!(field(lines[1]), "=".repeat(40));
        assert_eq!(field(lines[2]), format!("{}{}{}", " ".repeat(20), "=".repeat(10), " ".repeat(10)));
        assert_eq!(field(lines[3]), format!("{}=", " ".repeat(39)));
        assert_eq!(field(lines[4]), " ".repeat(40));
        assert!(lines[1].starts_with("       0.0      100.0  |"), "{text}");
        assert!(lines[4].starts_with("       0.0          -  |"), "{text}");
    }

    #[test]
    fn steps_that_took_no_time_are_drawn() {
        assert_eq!(cells(0.0, 0.0, 0.0), "=");
    }
}
