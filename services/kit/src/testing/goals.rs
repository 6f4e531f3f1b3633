//! What a measurement promises. It goes on after a miss, so that every figure is printed, and ends with all that was missed.

use anyhow::ensure;

/// What was missed so far.
#[derive(Debug, Default)]
#[must_use = "it ends the measurement with what was missed"]
pub struct Goals {
    missed: Vec<String>,
}

impl Goals {
    /// Notes a figure that is more than what is promised, both in `unit`. Returns whether the promise is kept.
    pub fn at_most(&mut self, what: &str, found: f64, promised: f64, unit: &str) -> bool {
        // What is not a number is a miss.
        let is_met = found <= promised;
        if !is_met {
            self.miss(format!("{what}: {found:.2} {unit}, and at most {promised:.2} {unit} are promised"));
        }
        is_met
    }

    /// Notes a figure that is less than what is promised, both in `unit`. Returns whether the promise is kept.
    pub fn at_least(&mut self, what: &str, found: f64, promised: f64, unit: &str) -> bool {
        let is_met = found >= promised;
        if !is_met {
            self.miss(format!("{what}: {found:.2} {unit}, and at least {promised:.2} {unit} are promised"));
        }
        is_met
    }

    /// Notes a part of the measurement that failed. Returns what another one came to.
    pub fn part<T>(&mut self, what: &str, outcome: anyhow::Result<T>) -> Option<T> {
        outcome.map_err(|error| self.miss(format!("{what} failed: {error:#}"))).ok()
    }

    /// Ends the measurement.
    ///
    /// # Errors
    ///
    /// Something was missed: all of it is named.
    pub fn met(self) -> anyhow::Result<()> {
        ensure!(self.missed.is_empty(), "{} missed:\n{}", self.missed.len(), self.missed.join("\n"));
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the figures of a measurement are its product")]
    fn miss(&mut self, what: String) {
        println!("MISSED {what}");
        self.missed.push(what);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn all_that_was_missed_is_named_at_the_end() {
        let mut goals = Goals::default();
        assert!(goals.at_most("a wait", 5.0, 5.0, "s"));
        assert!(goals.at_least("a rate", 5.0, 5.0, "a second"));
        assert_eq!(goals.part("a round", Ok(7)), Some(7));
        goals.met().unwrap();

        let mut goals = Goals::default();
        assert!(!goals.at_most("a wait", 5.1, 5.0, "s"));
        assert!(!goals.at_least("a rate", 4.9, 5.0, "a second"));
        assert_eq!(goals.part::<()>("a round", Err(anyhow!("no answer").context("a request"))), None);
        assert!(!goals.at_most("a ratio", f64::NAN, 1.2, "times"));
        let text = goals.met().unwrap_err().to_string();
        assert_eq!(
            text,
            "4 missed:\na wait: 5.10 s, and at most 5.00 s are promised\n\
             a rate: 4.90 a second, and at least 5.00 a second are promised\na round failed: a request: no answer\n\
             a ratio: NaN times, and at most 1.20 times are promised"
        );
    }
}
