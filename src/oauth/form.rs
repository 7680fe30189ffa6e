//! Parameters of a query or a form, read strictly (OAuth 2.1 section 3.1).
//!
//! A parameter that occurs twice could be two values to two readers and is refused; an empty one is as if absent.

/// Parameters of one request at most.
const MOST: usize = 64;

/// Why parameters are refused. Carries no value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A parameter occurs twice.
    #[error("the parameter `{0}` occurs twice")]
    Twice(String),
    /// A percent sign without two hex digits, bytes that are not UTF-8, or a control character.
    #[error("a parameter is not form-encoded text")]
    Encoding,
    /// More than 64 parameters.
    #[error("too many parameters")]
    Many,
}

/// The parameters of one request.
#[derive(Clone, Default)]
pub struct Parameters(Vec<(String, String)>);

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Parameters {
    /// Reads `name=value&…` as browsers write it (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(text: &[u8]) -> Result<Self, FormError> {
        let mut read: Vec<(String, String)> = Vec::new();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if read.len() == MOST {
                return Err(FormError::Many);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(halves.next().unwrap_or_default())?;
            let value = decoded(halves.next().unwrap_or_default())?;
            if read.iter().any(|(other, _)| *other == name) {
                return Err(FormError::Twice(name.chars().filter(|c| !c.is_control()).take(40).collect()));
            }
            read.push((name, value));
        }
        Ok(Self(read))
    }

    /// The value of a parameter that is there and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every parameter, as `(name, value)`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// One value that is form-encoded by itself, such as a half of HTTP Basic (RFC 6749 section 2.3.1).
///
/// # Errors
/// It is no form-encoded text.
pub fn decoded(text: &[u8]) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(FormError::Encoding) };
                bytes.push(u8::try_from(high * 16 + low).or(Err(FormError::Encoding))?);
            }
            other => bytes.push(*other),
        }
    }
    let text = String::from_utf8(bytes).or(Err(FormError::Encoding))?;
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\r' && c != '\t') {
        return Err(FormError::Encoding);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{FormError, Parameters};

    #[test]
    fn e05_a_parameter_occurs_once_and_an_empty_one_is_absent() {
        let read = Parameters::parse(b"a=1&b=x+y%20z&c=&d&%65=%C3%A9&&f=g=h").unwrap();
        assert_eq!(read.get("a"), Some("1"));
        assert_eq!(read.get("b"), Some("x y z"));
        assert_eq!(read.get("e"), Some("\u{e9}"));
        assert_eq!(read.get("f"), Some("g=h"));
        for absent in ["c", "d", "g", ""] {
            assert_eq!(read.get(absent), None, "{absent}");
        }
        for twice in ["a=1&a=1", "a=1&a=", "a&a", "a=1&%61=2"] {
            assert_eq!(Parameters::parse(twice.as_bytes()).unwrap_err(), FormError::Twice("a".into()), "{twice}");
        }
    }

    #[test]
    fn h08_a_value_by_itself_is_one_value() {
        assert_eq!(super::decoded(b"a%26b=c+d&e").unwrap(), "a&b=c d&e");
        assert_eq!(super::decoded(b"%"), Err(FormError::Encoding));
    }

    #[test]
    fn what_is_not_form_encoded_text_is_refused() {
        for text in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff", b"a=%00", b"%00=a", b"a=%1b"] {
            assert_eq!(Parameters::parse(text).unwrap_err(), FormError::Encoding, "{text:?}");
        }
        let many: String = (0..65).map(|number| format!("p{number}=1&")).collect();
        assert_eq!(Parameters::parse(many.as_bytes()).unwrap_err(), FormError::Many);
        assert!(!format!("{:?}", Parameters::parse(b"code=s3cret").unwrap()).contains("s3cret"));
    }
}
