//! Filters by tag: `a || b` (`FilterAPI.buildSubscriptionData`).

use rocket_protocol::message::hash;

use crate::{EXPRESSION_BYTES_MAX, FilterError, TAGS_MAX};

/// The tags of a subscription, by their hashes only: a pull that waits keeps no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Sorted, for the search per message.
    hashes: Box<[i32]>,
}

impl Tags {
    /// Splits `expression` at `||`. Empty pieces are dropped, as in Java.
    pub(crate) fn parse(expression: &str) -> Result<Self, FilterError> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let mut hashes: Vec<i32> = expression
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(hash::java_hash_code)
            .collect();
        if hashes.is_empty() {
            return Err(FilterError::NoTag(expression.to_owned()));
        }
        if hashes.len() > TAGS_MAX {
            return Err(FilterError::TooLong);
        }
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Self {
            hashes: hashes.into(),
        })
    }

    /// Whether one of the tags has this code.
    pub fn contains(&self, tags_code: i64) -> bool {
        // A code is the hash, sign-extended.
        i32::try_from(tags_code).is_ok_and(|hash| self.hashes.binary_search(&hash).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filter;

    fn parse(expression: &str) -> Filter {
        Filter::parse(None, Some(expression)).unwrap()
    }

    #[test]
    fn a_star_and_nothing_match_everything() {
        for expression in ["*", "", "  ", " * "] {
            assert_eq!(parse(expression), Filter::All);
        }
        assert_eq!(Filter::parse(Some("TAG"), None), Ok(Filter::All));
        assert!(Filter::All.may_match(0));
    }

    #[test]
    fn each_tag_of_a_list_matches_and_no_other() {
        let filter = parse("TagA || TagB||");
        for (tag, matches) in [("TagA", true), ("TagB", true), ("TagC", false), ("", false)] {
            assert_eq!(filter.may_match(hash::tags_code(tag)), matches, "{tag}");
        }
    }

    #[test]
    fn separators_alone_are_refused() {
        assert_eq!(
            Filter::parse(None, Some("|| ||")),
            Err(FilterError::NoTag("|| ||".to_owned()))
        );
    }

    #[test]
    fn an_expression_may_be_so_long_and_have_so_many_tags() {
        let tags = |count: usize| vec!["t"; count].join("||");
        assert!(parse(&tags(1_024)).may_match(hash::tags_code("t")));
        for expression in [tags(1_025), "t".repeat(16_385)] {
            assert_eq!(
                Filter::parse(None, Some(&expression)),
                Err(FilterError::TooLong)
            );
        }
        assert!(Filter::parse(None, Some(&"t".repeat(16_384))).is_ok());
    }

    #[test]
    fn a_filter_keeps_four_bytes_of_each_tag() {
        let tag = "t".repeat(1_000);
        let Filter::Tags(tags) = parse(&format!("{tag}a||{tag}b||{tag}a")) else {
            panic!("two tags");
        };
        assert_eq!(size_of_val(&*tags.hashes), 8);
    }

    #[test]
    fn codes_that_are_no_hash_match_nothing() {
        let code = hash::tags_code("TagA");
        assert!(!parse("TagA").may_match(code + (1 << 32)));
    }

    #[test]
    fn an_unknown_type_is_refused() {
        assert_eq!(
            Filter::parse(Some("XPATH"), Some("a")),
            Err(FilterError::UnknownType("XPATH".to_owned()))
        );
    }
}
