//! Filters by tag: `a || b` (`FilterAPI.buildSubscriptionData`).

use rocket_protocol::message::hash;

use crate::FilterError;

/// The tags of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    tags: Vec<String>,
    /// Sorted, for the search per message.
    codes: Vec<i64>,
}

impl Tags {
    /// Splits `expression` at `||`. Empty pieces are dropped, as in Java.
    pub(crate) fn parse(expression: &str) -> Result<Self, FilterError> {
        let tags: Vec<String> = expression
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect();
        if tags.is_empty() {
            return Err(FilterError::NoTag(expression.to_owned()));
        }
        let mut codes: Vec<i64> = tags.iter().map(|tag| hash::tags_code(tag)).collect();
        codes.sort_unstable();
        codes.dedup();
        Ok(Self { tags, codes })
    }

    /// The tags in the order of the expression.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Whether one of the tags has this code.
    pub fn contains(&self, tags_code: i64) -> bool {
        self.codes.binary_search(&tags_code).is_ok()
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
    fn an_unknown_type_is_refused() {
        assert_eq!(
            Filter::parse(Some("XPATH"), Some("a")),
            Err(FilterError::UnknownType("XPATH".to_owned()))
        );
    }
}
