//! Pages of a list: one rule for `limit`, and how a page knows of a next one.

use contracts::{
    api::Page,
    wire::{
        DEFAULT_HISTORY_LIMIT, DEFAULT_LIST_LIMIT, DEFAULT_SYNC_LIMIT, MAX_HISTORY_LIMIT, MAX_LIST_LIMIT,
        MAX_SYNC_LIMIT,
    },
};

use crate::error::InvalidField;

/// The page sizes of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct PageSizes {
    /// When a request names none.
    pub default: usize,
    pub max: usize,
}

/// Pages of a chat's history, over REST, gRPC and WebSocket alike.
pub const HISTORY: PageSizes =
    PageSizes { default: DEFAULT_HISTORY_LIMIT as usize, max: MAX_HISTORY_LIMIT as usize };

/// Pages of a sync, over gRPC and WebSocket alike.
pub const SYNC: PageSizes = PageSizes { default: DEFAULT_SYNC_LIMIT as usize, max: MAX_SYNC_LIMIT as usize };

/// Pages of pinned messages and of replies, likewise.
pub const LIST: PageSizes = PageSizes { default: DEFAULT_LIST_LIMIT as usize, max: MAX_LIST_LIMIT as usize };

/// Which part of a chat's history a page is. Its entries are in the order of their seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// Those behind this seq, beginning with the next.
    After(i64),
    /// Those before this seq, ending with the last.
    Before(i64),
    /// This seq in the middle.
    Around(i64),
    /// Those from the first one on that was sent at or after this time, in milliseconds since the epoch.
    Since(i64),
}

impl Span {
    /// Returns the part that a request sets: the first of `around`, `before`, `from_ms` and `after` that is there decides. Without any,
    /// it is the beginning.
    pub fn of(
        after: Option<i64>,
        before: Option<i64>,
        around: Option<i64>,
        from_ms: Option<i64>,
    ) -> Result<Self, InvalidField> {
        let at_least = |least: i64, field, seq: i64| {
            let problem = || format!("must be {least} or more");
            if seq >= least { Ok(seq) } else { Err(InvalidField { field, problem: problem() }) }
        };
        let after = after.map(|seq| at_least(0, "after", seq)).transpose()?;
        let before = before.map(|seq| at_least(1, "before", seq)).transpose()?;
        let around = around.map(|seq| at_least(1, "around", seq)).transpose()?;
        let from_ms = from_ms.map(|ms| at_least(0, "from_ms", ms)).transpose()?;
        Ok(match (around, before, from_ms) {
            (Some(seq), _, _) => Self::Around(seq),
            (None, Some(seq), _) => Self::Before(seq),
            (None, None, Some(ms)) => Self::Since(ms),
            (None, None, None) => Self::After(after.unwrap_or(0)),
        })
    }
}

/// The size of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSizes {
    /// Returns the size that a request sets with `limit`; 1 to the largest are allowed.
    pub fn of(self, limit: Option<i64>) -> Result<PageSize, InvalidField> {
        let Some(limit) = limit else { return Ok(PageSize(self.default)) };
        let size = usize::try_from(limit).ok().filter(|size| (1..=self.max).contains(size));
        let problem = || format!("must be 1 to {}", self.max);
        size.map(PageSize).ok_or_else(|| InvalidField { field: "limit", problem: problem() })
    }
}

impl PageSize {
    /// A page of one item.
    pub const ONE: Self = Self(1);

    /// Returns the most items that are on the page.
    pub fn items(self) -> usize {
        self.0
    }

    /// Returns how many items to read: one more than the page has shows whether there is a next one.
    pub fn with_next(self) -> usize {
        self.0 + 1
    }

    /// Returns the page of items that were read [`Self::with_next`]. `cursor` names the place of an item in the list.
    pub fn page<T, I: From<T>>(self, mut items: Vec<T>, cursor: impl FnOnce(&T) -> String) -> Page<I> {
        let has_next = items.len() > self.0;
        items.truncate(self.0);
        let next_cursor = items.last().filter(|_| has_next).map(cursor);
        Page { items: items.into_iter().map(I::from).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: PageSizes = PageSizes { default: 2, max: 3 };

    #[test]
    fn a_span_is_what_the_first_of_three_says() {
        let check = |after, before, around, expected: Result<Span, &'static str>| {
            let span = Span::of(after, before, around, None).map_err(|invalid| invalid.field);
            assert_eq!(span, expected, "{after:?} {before:?} {around:?}");
        };
        check(None, None, None, Ok(Span::After(0)));
        check(Some(0), None, None, Ok(Span::After(0)));
        check(Some(7), None, None, Ok(Span::After(7)));
        check(None, Some(1), None, Ok(Span::Before(1)));
        check(None, None, Some(i64::MAX), Ok(Span::Around(i64::MAX)));
        check(Some(-1), None, None, Err("after"));
        check(None, Some(0), None, Err("before"));
        check(None, None, Some(0), Err("around"));
        check(Some(1), Some(2), None, Ok(Span::Before(2)));
        check(Some(1), Some(2), Some(3), Ok(Span::Around(3)));
        check(Some(-1), Some(2), None, Err("after"));
        check(None, Some(0), Some(3), Err("before"));
    }

    #[test]
    fn a_span_from_a_time_stands_alone() {
        let of = |after, from_ms| Span::of(after, None, None, Some(from_ms)).map_err(|invalid| invalid.field);
        assert_eq!(of(None, 0), Ok(Span::Since(0)));
        assert_eq!(of(None, i64::MAX), Ok(Span::Since(i64::MAX)));
        assert_eq!(of(None, -1), Err("from_ms"));
        assert_eq!(of(Some(0), 5), Ok(Span::Since(5)));
        assert_eq!(Span::of(None, Some(3), None, Some(5)), Ok(Span::Before(3)));
    }

    #[test]
    fn a_limit_is_within_the_bounds_or_refused_with_them() {
        let size = |limit| SIZES.of(limit).map(PageSize::items).map_err(|error| error.to_string());
        assert_eq!(size(None), Ok(2));
        assert_eq!(size(Some(1)), Ok(1));
        assert_eq!(size(Some(3)), Ok(3));
        for limit in [i64::MIN, -1, 0, 4, i64::MAX] {
            assert_eq!(size(Some(limit)), Err("limit: must be 1 to 3".to_owned()), "{limit}");
        }
    }

    #[test]
    fn a_page_has_a_cursor_when_there_is_a_next_one() {
        let size = SIZES.of(None).expect("the default");
        let page = |items: &[u8]| {
            let page: Page<u8> = size.page(items.to_vec(), u8::to_string);
            (page.items, page.next_cursor)
        };
        assert_eq!(page(&[]), (vec![], None));
        assert_eq!(page(&[1, 2]), (vec![1, 2], None));
        assert_eq!(page(&[1, 2, 3]), (vec![1, 2], Some("2".to_owned())));
    }
}
