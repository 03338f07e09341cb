//! Which documents are held out.
//!
//! Documents are taken in an order that depends on their number alone, each one that still fits into the
//! share of the tokens; at last the smallest other one, where that brings the sum closer. Where every
//! document is so large that none does, the end of the longest one is held out, exactly as many tokens as
//! the share asks for: from then on it counts as two documents.

use msg_core::random::{Key, philox4x32};

/// The held-out part of documents given by their tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// For each document, whether it is held out.
    pub held_out: Vec<bool>,
    /// A document of which only the tokens from this on are held out.
    pub cut: Option<(usize, u64)>,
}

/// Selects a share of the tokens. Memory is 16 bytes a document.
pub(super) fn select(tokens: &[u64], share: f64) -> Selection {
    let total: u64 = tokens.iter().sum();
    let target = (total as f64 * share).round() as u64;
    let mut held_out = vec![false; tokens.len()];
    let key = Key::new(0, "data.held_out", 0);
    let mut order: Vec<(u64, usize)> = (0..tokens.len())
        .map(|document| {
            let [lo, hi, ..] = philox4x32([document as u32, (document as u64 >> 32) as u32, 0, 0], key);
            (u64::from(hi) << 32 | u64::from(lo), document)
        })
        .collect();
    order.sort_unstable();
    let mut taken = 0;
    for (_, document) in order {
        if taken + tokens[document] <= target {
            taken += tokens[document];
            held_out[document] = true;
        }
    }
    let others = (0..tokens.len()).filter(|&document| !held_out[document]);
    if let Some(smallest) = others.min_by_key(|&document| tokens[document])
        && (taken + tokens[smallest]).abs_diff(target) < target - taken
    {
        taken += tokens[smallest];
        held_out[smallest] = true;
    }
    let longest =
        tokens.iter().enumerate().max_by_key(|&(document, &length)| (length, std::cmp::Reverse(document)));
    let cut = match longest {
        Some((document, &length)) if taken == 0 && 0 < target && target < length => {
            Some((document, length - target))
        }
        _ => None,
    };
    Selection { held_out, cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_met_as_closely_as_documents_allow() {
        let tokens: Vec<u64> = (0..5000).map(|document| 20 + document * 7919 % 1000).collect();
        let total: u64 = tokens.iter().sum();
        for share in [0.0, 0.001, 0.02, 0.5] {
            let Selection { held_out, cut } = select(&tokens, share);
            let held: u64 =
                tokens.iter().zip(&held_out).filter(|(_, held)| **held).map(|(tokens, _)| tokens).sum();
            assert!(held.abs_diff((total as f64 * share) as u64) <= 20, "{share}: {held} of {total}");
            assert_eq!(cut, None);
        }
    }

    #[test]
    fn the_end_of_the_longest_is_held_out_where_documents_are_too_large() {
        let expected = Selection { held_out: vec![false; 3], cut: Some((1, 992)) };
        assert_eq!(select(&[600, 1000, 1000], 0.003), expected);
        assert_eq!(select(&[1000], 0.02), Selection { held_out: vec![false], cut: Some((0, 980)) });
        assert_eq!(select(&[1000], 0.0), Selection { held_out: vec![false], cut: None });
    }
}
