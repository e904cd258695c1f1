//! Lists end at a number and at a size, whichever comes first.

use std::ops::Bound;

use model::table::{Row, Table};

use crate::denied::Denied;

/// Rows of a page when nothing is said, and most of a page.
const PAGE_ROWS: u32 = 1_000;
/// Rows of a list without pages when nothing is said.
const LIST_ROWS: u32 = 100;
/// A page ends when it is larger than this, in bytes.
const PAGE_BYTES: usize = 1 << 20;

/// A page, and what asks for the next one; empty when there is none.
pub(super) struct Page<M> {
    pub(super) rows: Vec<M>,
    pub(super) next: String,
}

/// The rows of `table` after `token`, as far as they fit on a page.
pub(super) fn page<R, M>(
    table: &Table<R>,
    size: u32,
    token: &str,
    show: impl Fn(&R) -> M,
) -> Result<Page<M>, Denied>
where
    R: Row<Key: std::str::FromStr<Err: std::fmt::Display> + ToString>,
    M: Wire,
{
    let after: Bound<R::Key> = match token {
        "" => Bound::Unbounded,
        token => Bound::Excluded(api::parse("page_token", token)?),
    };
    let rows = if size == 0 { PAGE_ROWS } else { size.min(PAGE_ROWS) };
    let (mut page, mut bytes, mut last) = (Page { rows: Vec::new(), next: String::new() }, 0, None);
    for (key, row) in table.range((after, Bound::Unbounded)) {
        if page.rows.len() >= count(rows) || bytes > PAGE_BYTES {
            page.next = last.unwrap_or_default();
            break;
        }
        let shown = show(row);
        bytes += shown.wire_size();
        page.rows.push(shown);
        last = Some(key.to_string());
    }
    Ok(page)
}

/// The first of `rows`: at most `limit` of them, 0 for the default, and no more than fit into an answer.
pub(super) fn first<M: Wire>(rows: impl Iterator<Item = M>, limit: u32) -> Vec<M> {
    let limit = if limit == 0 { LIST_ROWS } else { limit.min(PAGE_ROWS) };
    let mut bytes = 0;
    rows.take(count(limit))
        .take_while(|row| {
            let fits = bytes <= PAGE_BYTES;
            bytes += row.wire_size();
            fits
        })
        .collect()
}

/// Messages whose size on the wire is known.
pub(super) trait Wire {
    fn wire_size(&self) -> usize;
}

macro_rules! wire {
    ($($message:ident)*) => {$(
        impl Wire for api::v1::$message {
            fn wire_size(&self) -> usize {
                api::wire_size(self)
            }
        }
    )*};
}

wire!(Resource Rotation Revocation Grant Token JoinToken);

fn count(rows: u32) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
