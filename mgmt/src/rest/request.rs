//! A request taken apart: path variables, query, `If-Match`, body.

use std::net::IpAddr;

use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;

/// What a handler is given besides the caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Where it comes from.
    pub(crate) peer: Option<IpAddr>,
    /// Variables of the path by name; each may be empty.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The query.
    pub(crate) query: Query,
    /// The ETag that the client wants to change; empty if any.
    pub(crate) if_match: String,
    /// The cookie of a browser's login; empty if there is none.
    pub(crate) login: String,
    /// The body of a POST or PUT.
    pub(crate) body: Bytes,
    /// What the request says, read by its message: path variables, and query or body.
    pub(crate) fields: Map<String, Value>,
}

/// A query string, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Request {
    /// A variable of the path.
    pub(crate) fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// What the request says.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_value(Value::Object(self.fields.clone()))
            .map_err(|error| ApiError::invalid(format!("the request does not fit: {error}")))
    }

    /// A text field of the request; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A true or false field of the request.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The revision that the client wants to change, from `If-Match`; none if any.
    ///
    /// `current` is the revision as it is: an ETag that is no number matches nothing.
    pub(crate) fn expected_revision(&self, current: u64) -> Result<Option<u64>, ApiError> {
        let tag = self.if_match.trim().trim_start_matches("W/").trim_matches('"');
        match tag {
            "" | "*" => Ok(None),
            tag => match tag.parse() {
                Ok(revision) if revision == current => Ok(Some(revision)),
                _ => Err(ApiError::etag_mismatch(current)),
            },
        }
    }
}

/// A body as a JSON object: empty and `null` mean `{}`, what follows the first value is ignored, the last of equal
/// keys counts.
pub(crate) fn body_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next() {
        None | Some(Ok(Value::Null)) => Ok(Map::new()),
        Some(Ok(Value::Object(object))) => Ok(object),
        Some(Ok(_)) => Err(ApiError::invalid("the body is not a JSON object")),
        Some(Err(error)) => Err(ApiError::invalid(format!("the body is not JSON: {error}"))),
    }
}

impl Query {
    /// Takes a query string apart.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (percent_decode(name, true), percent_decode(value, true)) {
                (Some(name), Some(value)) => Ok((name, value)),
                _ => Err(ApiError::invalid(format!("the query has an invalid escape in {pair:?}"))),
            }
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// A parameter's text, in any spelling of its case; empty if it is not given.
    pub(crate) fn text(&self, name: &str) -> &str {
        let exact = self.0.iter().find(|(known, _)| known == name);
        let found = exact.or_else(|| self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Every value of a parameter, in any spelling of its case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let own = |exact: bool| {
            let mut pairs = Vec::new();
            for (known, value) in &self.0 {
                if known == name || !exact && known.eq_ignore_ascii_case(name) {
                    pairs.push(value.as_str());
                }
            }
            pairs
        };
        let exact = own(true);
        if exact.is_empty() { own(false) } else { exact }
    }

    /// A parameter that is a 64-bit integer.
    pub(crate) fn int64(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| mismatch(name, "ParseInt", text)),
        }
    }

    /// A parameter that is true or false.
    pub(crate) fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            text => Err(mismatch(name, "ParseBool", text)),
        }
    }
}

/// Decodes `%XX`, and `+` in queries; none if an escape or the text is broken.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The words that clients of the contract know for a value of the wrong type.
fn mismatch(name: &str, parser: &str, text: &str) -> ApiError {
    ApiError::invalid(format!(
        "type mismatch, parameter: {name}, error: strconv.{parser}: parsing {text:?}: invalid syntax"
    ))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn bodies_are_read_as_the_gateway_reads_them() {
        let read = |text: &str| body_object(text.as_bytes());
        for empty in ["", "  \n", "{}", "null"] {
            assert!(read(empty).unwrap().is_empty(), "{empty}");
        }
        assert_eq!(read(r#"{"name":"a"} trailing"#).unwrap()["name"], "a");
        assert_eq!(read(r#"{"name":"b","name":"a"}"#).unwrap()["name"], "a");
        for wrong in ["[]", "1", "\"x\"", "{", "x"] {
            assert_eq!(read(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_a_crash() {
        assert!(body_object("[".repeat(100_000).as_bytes()).is_err());
        assert!(body_object(r#"{"a":"#.repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn queries_are_decoded_and_typed() {
        let query = Query::parse("name=a%20b+c&Limit=5&showAll=true&UUID=&x=%C3%A9").unwrap();
        assert_eq!(query.text("name"), "a b c");
        assert_eq!(query.int64("limit").unwrap(), Some(5));
        assert!(query.boolean("showAll").unwrap());
        assert_eq!(query.text("uuid"), "");
        assert_eq!(query.text("x"), "é");
        assert!(Query::parse("limit=x").unwrap().int64("limit").is_err());
        assert!(Query::parse("showAll=maybe").unwrap().boolean("showAll").is_err());
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff", "%=a"] {
            assert!(Query::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn if_match_takes_bare_quoted_and_weak_tags() {
        let request = |tag: &str| Request { if_match: tag.to_owned(), ..Request::default() };
        for tag in ["3", "\"3\"", "W/\"3\"", " 3 "] {
            assert_eq!(request(tag).expected_revision(3), Ok(Some(3)), "{tag}");
        }
        for tag in ["", "*"] {
            assert_eq!(request(tag).expected_revision(3), Ok(None));
        }
        for tag in ["2", "x", "-3"] {
            assert_eq!(request(tag).expected_revision(3).unwrap_err().status, 412, "{tag}");
        }
    }
}
