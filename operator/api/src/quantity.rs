//! Kubernetes quantities as numbers: `10Gi` and `10737418240` are the same size.
//!
//! Only what comparing needs; see <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;

/// An amount in thousandths, so that `500m` of a processor is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    thousandths: i128,
}

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantityError {
    /// What was written.
    pub text: String,
}

impl std::fmt::Display for QuantityError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "\"{}\" is not an amount such as 2, 500m or 10Gi",
            self.text
        )
    }
}

impl std::error::Error for QuantityError {}

impl Quantity {
    /// Parses Kubernetes' text form. A fraction below a thousandth is rounded up, as Kubernetes does.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let bad = || QuantityError {
            text: text.to_owned(),
        };
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (numerator, denominator) = scale(suffix).ok_or_else(bad)?;
        let negative = number.starts_with('-');
        let digits = number.trim_start_matches(['+', '-']);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty()
            || !(whole.to_owned() + fraction)
                .bytes()
                .all(|b| b.is_ascii_digit())
        {
            return Err(bad());
        }
        let places = u32::try_from(fraction.len()).map_err(|_| bad())?;
        let mantissa: i128 = format!("0{whole}{fraction}").parse().map_err(|_| bad())?;
        let below = 10_i128
            .checked_pow(places)
            .and_then(|p| p.checked_mul(denominator))
            .ok_or_else(bad)?;
        let above = mantissa
            .checked_mul(1000)
            .and_then(|m| m.checked_mul(numerator))
            .ok_or_else(bad)?;
        let thousandths = above / below + i128::from(above % below != 0);
        Ok(Self {
            thousandths: if negative { -thousandths } else { thousandths },
        })
    }

    /// Compares two texts by amount; `None` when one of them is not a quantity.
    pub fn compare(one: &str, other: &str) -> Option<Ordering> {
        Some(Self::parse(one).ok()?.cmp(&Self::parse(other).ok()?))
    }

    /// Whether two texts mean the same amount. `false` when one of them is not a quantity.
    pub fn same(one: &str, other: &str) -> bool {
        Self::compare(one, other) == Some(Ordering::Equal)
    }
}

/// A suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    let power = |base: i128, names: &[&str]| {
        let place = names.iter().position(|name| *name == suffix)?;
        base.checked_pow(u32::try_from(place).ok()?.checked_add(1)?)
    };
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, 1_000_000_000)),
        _ => match power(1024, &BINARY).or_else(|| power(1000, &DECIMAL)) {
            Some(factor) => Some((factor, 1)),
            None => exponent(suffix),
        },
    }
}

/// `e3`, `E-2`.
fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 {
        (1, factor)
    } else {
        (factor, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_written_differently_are_the_same() {
        for (one, other) in [
            ("1Gi", "1073741824"),
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("2", "2000m"),
            ("1E", "1e18"),
            ("+1", "1"),
            (".5", "0.5"),
        ] {
            assert!(Quantity::same(one, other), "{one} and {other}");
        }
        assert_eq!(Quantity::compare("10Gi", "9Gi"), Some(Ordering::Greater));
        assert_eq!(Quantity::compare("1G", "1Gi"), Some(Ordering::Less));
        assert_eq!(Quantity::compare("-1", "1n"), Some(Ordering::Less));
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", "Gi", "10GB", "1.2.3", "1 Gi", "ten", "-", "1e", "1e99"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }
}
