//! Money: `i64` minor units (cents) and an ISO 4217 currency. Never a float, never a sum that wraps.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::bounds::words;

/// The largest amount of an order, in minor units. Far above any real order, and so far below `i64::MAX` that sums over
/// a table stay exact.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000;

/// ISO 4217 codes of currencies in use (list one, funds and metals left out).
const CURRENCIES: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD \
    CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD \
    HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL \
    MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD \
    RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU \
    UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG";

/// An ISO 4217 currency code, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency([u8; 3]);

/// A string that is not a currency code in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an ISO 4217 currency code in upper case, such as USD")]
pub struct ParseCurrencyError;

impl Currency {
    /// The code, e.g. `USD`.
    pub fn code(&self) -> &str {
        // Invariant: only `from_str` makes a currency, from a code that is ASCII.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        words(CURRENCIES.split_ascii_whitespace())
    }
}

impl ToSchema for Currency {}

impl FromStr for Currency {
    type Err = ParseCurrencyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| ParseCurrencyError)?;
        CURRENCIES
            .split_ascii_whitespace()
            .any(|known| known == text)
            .then_some(Self(code))
            .ok_or(ParseCurrencyError)
    }
}

impl TryFrom<String> for Currency {
    type Error = ParseCurrencyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// `Σ quantity × unit_amount`, or `None` where it passes [`MAX_AMOUNT`].
pub fn total(lines: impl IntoIterator<Item = (i64, i64)>) -> Option<i64> {
    lines.into_iter().try_fold(0_i64, |sum, (quantity, unit_amount)| {
        let sum = sum.checked_add(quantity.checked_mul(unit_amount)?)?;
        (sum <= MAX_AMOUNT).then_some(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_in_use_are_currencies() {
        assert_eq!("USD".parse::<Currency>().map(|currency| currency.to_string()), Ok("USD".into()));
        for wrong in ["usd", "US", "USDD", "XXX", "U D", "", "ÄÖ"] {
            assert_eq!(wrong.parse::<Currency>(), Err(ParseCurrencyError), "{wrong}");
        }
    }

    #[test]
    fn a_total_never_wraps() {
        assert_eq!(total([(2, 50), (1, 1)]), Some(101));
        assert_eq!(total([(1, MAX_AMOUNT)]), Some(MAX_AMOUNT));
        assert_eq!(total([(1, MAX_AMOUNT), (1, 1)]), None);
        assert_eq!(total([(i64::MAX, 2)]), None);
    }
}
