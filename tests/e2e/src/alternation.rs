//! Two sides that are measured in alternation, in short slices: what else the machine does affects both, and how much that is shows in slices of one side.

use std::fmt::{self, Display, Formatter};

use tokio::time::Instant;

use crate::{checker::percentile, report};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    On,
    Off,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub what: &'a str,
    pub unit: &'a str,
    /// Pairs of slices, one of each side.
    pub pairs: usize,
    /// No pair begins later.
    pub until: Instant,
}

/// What the slices came to, in the order in which they were measured: pairs of both sides, the order swapped with each pair.
#[derive(Clone, Debug, Default)]
pub struct Slices(Vec<(Side, f64)>);

impl Slices {
    /// Measures slices as planned, and reports each pair.
    pub async fn measure(
        plan: Plan<'_>,
        mut slice: impl AsyncFnMut(Side) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let Plan { what, unit, pairs, until } = plan;
        let mut slices = Self::default();
        for pair in 0..pairs {
            if Instant::now() >= until {
                report(format!("{what}: the time is over after {pair} of {pairs} pairs"));
                break;
            }
            let order = if pair % 2 == 0 { [Side::On, Side::Off] } else { [Side::Off, Side::On] };
            let mut figures = Vec::with_capacity(order.len());
            for side in order {
                let figure = slice(side).await?;
                slices.0.push((side, figure));
                figures.push(format!("{} {figure:.1}", side.name()));
            }
            report(format!("{what}, pair {} of {pairs}: {} {unit}", pair + 1, figures.join(", ")));
        }
        Ok(slices)
    }

    /// Returns how many pairs there are.
    pub fn pairs(&self) -> usize {
        self.0.len() / 2
    }

    /// Returns the median of one side.
    pub fn median(&self, side: Side) -> f64 {
        let of_side = self.0.iter().filter(|(of, _)| *of == side);
        Ratios::of(of_side.map(|(_, figure)| *figure)).median()
    }

    /// Returns the ratio of [`Side::On`] to [`Side::Off`] in each pair.
    pub fn ratios(&self) -> Ratios {
        Ratios::of(self.0.chunks_exact(2).map(|pair| match pair {
            [(Side::On, on), (_, off)] | [(_, off), (_, on)] => on / off,
            _ => f64::NAN,
        }))
    }

    /// Returns the ratio of each slice to the one before it, where both are of the same side: what ratios are like where nothing differs.
    pub fn noise(&self) -> Ratios {
        let neighbours = self.0.windows(2);
        Ratios::of(neighbours.filter_map(|neighbours| match neighbours {
            [(first, before), (second, after)] if first == second => Some(after / before),
            _ => None,
        }))
    }
}

/// Ratios, sorted. They are shown as their median and how they are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratios(Vec<f64>);

impl Ratios {
    fn of(ratios: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = ratios.collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// Returns the one in the middle, or what lies between two; of none, what is not a number.
    pub fn median(&self) -> f64 {
        let at = |index: usize| self.0.get(index).copied().unwrap_or(f64::NAN);
        let number = self.0.len();
        f64::midpoint(at(number.saturating_sub(1) / 2), at(number / 2))
    }
}

impl Display for Ratios {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(sorted) = self;
        let at = |percent| percentile(sorted, percent);
        let (median, number) = (self.median(), sorted.len());
        write!(f, "{median:.3} (quartiles {:.3} and {:.3}, ", at(25), at(75))?;
        write!(f, "all from {:.3} to {:.3}, {number} of them)", at(0), at(100))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn plan(until: Instant) -> Plan<'static> {
        Plan { what: "a figure", unit: "s", pairs: 3, until }
    }

    #[tokio::test]
    async fn the_order_is_swapped_with_each_pair_and_noise_is_of_neighbours_of_one_side() {
        // The machine slows down, and one side is twice as slow as the other.
        let mut pace = 1.0;
        let slices = Slices::measure(plan(Instant::now() + HOUR), async |side| {
            pace += 1.0;
            Ok(if side == Side::On { 2.0 * pace } else { pace })
        });
        let slices = slices.await.expect("no slice fails");
        let sides: Vec<Side> = slices.0.iter().map(|(side, _)| *side).collect();
        assert_eq!(sides, [Side::On, Side::Off, Side::Off, Side::On, Side::On, Side::Off]);
        assert_eq!(slices.ratios(), Ratios::of([4.0 / 3.0, 10.0 / 4.0, 12.0 / 7.0].into_iter()));
        assert_eq!(slices.noise(), Ratios::of([4.0 / 3.0, 12.0 / 10.0].into_iter()));
        assert_eq!((slices.pairs(), slices.median(Side::On), slices.median(Side::Off)), (3, 10.0, 4.0));
    }

    #[tokio::test]
    async fn no_pair_begins_when_the_time_is_over() {
        let slices = Slices::measure(plan(Instant::now()), async |_| Ok(1.0)).await.expect("none fails");
        assert_eq!(slices.pairs(), 0);
        assert!(slices.ratios().median().is_nan(), "which no goal takes");
    }

    #[test]
    fn ratios_are_shown_with_their_spread() {
        let ratios = Ratios::of([1.1, 0.9, 1.0, 1.3].into_iter());
        assert_eq!(
            ratios.to_string(),
            "1.050 (quartiles 0.900 and 1.100, all from 0.900 to 1.300, 4 of them)"
        );
    }
}
