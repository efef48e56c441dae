//! Allocation: from which levels the lines of one order are taken.
//!
//! A line that names its location is taken from there. Any other is taken from the locations that have its SKU, in the
//! order of their priority, and each line by itself:
//!
//! 1. whole, from the first location that has all of it on the shelf;
//! 2. where the order allows a split: from the shelves of several, as much as there is from each in turn;
//! 3. whole, from the first location that may promise all of it beyond its shelf (`backorder_limit`);
//! 4. where the order allows a split: what the shelves have, and the rest beyond them, in turn.
//!
//! So a line is on backorder only where the shelves cannot do, and it is split only where no one shelf can. That one
//! location could do for the whole order changes nothing: the priority is the merchant's word, and who wants all lines from
//! one place names it.
//!
//! Lines that name their location come first, then the larger before the smaller: a line that has a choice, or needs less
//! room, gives way to one that has not. Every line takes from what those before it have left, so that no two lines of an
//! order count the same unit. Lines that would fit only if another had been taken from elsewhere are refused.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    inventory::{InventoryLevel, LevelKey, Sku},
    new_order::OrderLineDraft,
};

/// What an order wants of the stock, all or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its lines.
    pub lines: &'a [OrderLineDraft],
    /// Whether one line may be taken from several locations.
    pub allow_split: bool,
}

/// From which levels one line is taken: one, or several different ones if it is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The first of its parts, and of most lines all of it.
    pub first: Part,
    /// The other parts of a line that is split.
    pub further: Vec<Part>,
}

/// What a line takes from one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From which level.
    pub level: LevelKey,
    /// How many units, at least 1.
    pub quantity: i64,
}

impl Allocation {
    /// All of a line, from one level.
    pub const fn whole(level: LevelKey, quantity: i64) -> Self {
        Self { first: Part { level, quantity }, further: Vec::new() }
    }

    /// Its parts, in the order in which they were chosen.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// Whether there is more than one part.
    pub const fn is_split(&self) -> bool {
        !self.further.is_empty()
    }
}

/// The levels that orders may be taken from.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    /// The levels: of a SKU that a line wants from anywhere all there are, otherwise those that lines name.
    pub levels: BTreeMap<LevelKey, InventoryLevel>,
    /// For each SKU of those levels the ones that may be chosen, best first. Others must be named.
    pub candidates: BTreeMap<Sku, Vec<LevelKey>>,
}

impl Stock {
    /// The levels that a line may be taken from, best first. `None` if there is no such SKU, or not where the line wants it.
    pub(super) fn candidates(&self, line: &OrderLineDraft) -> Option<&[LevelKey]> {
        match line.named_level() {
            Some(named) => self.levels.get_key_value(&named).map(|(key, _)| std::slice::from_ref(key)),
            None => self.candidates.get(&line.sku).map(Vec::as_slice),
        }
    }
}

/// How far a level may be used.
#[derive(Clone, Copy)]
enum Depth {
    /// What is there and not promised.
    Shelf,
    /// What may be promised beyond it as well.
    Backorder,
}

/// The lines in the order in which they are to be taken.
pub(super) fn in_turn(lines: &[OrderLineDraft]) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..lines.len()).collect();
    turns.sort_by_key(|&index| (lines[index].location_id.is_none(), Reverse(lines[index].quantity)));
    turns
}

/// What the lines of one order have taken so far. No level changes by it.
pub(super) struct Taking<'a> {
    stock: &'a Stock,
    taken: BTreeMap<&'a LevelKey, i64>,
}

impl<'a> Taking<'a> {
    pub(super) fn new(stock: &'a Stock) -> Self {
        Self { stock, taken: BTreeMap::new() }
    }

    /// Takes a line, or gives `None` and takes nothing.
    pub(super) fn take(
        &mut self,
        quantity: i64,
        candidates: &'a [LevelKey],
        allow_split: bool,
    ) -> Option<Allocation> {
        for depth in [Depth::Shelf, Depth::Backorder] {
            if let Some(key) = candidates.iter().find(|key| self.left_at(key, depth) >= quantity) {
                let Part { level, quantity } = self.take_part(key, quantity);
                return Some(Allocation::whole(level, quantity));
            }
            let left: i64 = candidates.iter().map(|key| self.left_at(key, depth)).sum();
            if allow_split && left >= quantity {
                return self.split(quantity, candidates);
            }
        }
        None
    }

    /// Takes from each in turn what it has on the shelf, and then what it may promise beyond that.
    fn split(&mut self, quantity: i64, candidates: &'a [LevelKey]) -> Option<Allocation> {
        let (mut parts, mut missing) = (Vec::<Part>::new(), quantity);
        for depth in [Depth::Shelf, Depth::Backorder] {
            for key in candidates {
                let units = self.left_at(key, depth).min(missing);
                if units == 0 {
                    continue;
                }
                missing -= units;
                let part = self.take_part(key, units);
                match parts.iter_mut().find(|earlier| earlier.level == part.level) {
                    Some(earlier) => earlier.quantity += units,
                    None => parts.push(part),
                }
            }
        }
        let mut parts = parts.into_iter();
        Some(Allocation { first: parts.next()?, further: parts.collect() })
    }

    fn take_part(&mut self, key: &'a LevelKey, quantity: i64) -> Part {
        *self.taken.entry(key).or_default() += quantity;
        Part { level: key.clone(), quantity }
    }

    fn left_at(&self, key: &LevelKey, depth: Depth) -> i64 {
        let Some(level) = self.stock.levels.get(key) else { return 0 };
        let beyond = match depth {
            Depth::Shelf => level.backorder_limit,
            Depth::Backorder => 0,
        };
        let taken = self.taken.get(key).copied().unwrap_or_default();
        (level.available() - beyond - taken).max(0)
    }

    /// What is left of a level, whatever may be promised beyond its shelf included.
    pub(super) fn left(&self, key: &LevelKey) -> i64 {
        self.left_at(key, Depth::Backorder)
    }

    /// What was taken from each level.
    pub(super) fn levels(self) -> Vec<(LevelKey, i64)> {
        self.taken.into_iter().map(|(key, quantity)| (key.clone(), quantity)).collect()
    }
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod tests;
