//! What a certificate says of itself, read from its DER (RFC 5280 section 4): until when it is valid, and for which names.
//!
//! Invariant: reads nothing outside of what it is given and never panics; whether a certificate is good is rustls's matter:
//! the end is for people who watch it, and the names choose which of ours a client is shown, who checks them itself.

/// The end of a certificate's validity, in seconds since 1970; `None` when it cannot be read, or lies before 1970.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<u64> {
    let (validity, _) = expect(SEQUENCE, from_validity(der)?)?;
    let (_, _, after) = element(validity)?;
    let (tag, time, _) = element(after)?;
    moment(tag, time)
}

/// The DNS names of a certificate (subjectAltName only), wildcards as they stand there.
#[must_use]
pub fn dns_names(der: &[u8]) -> Vec<&str> {
    const DNS_NAME: u8 = 0x82;
    let mut names = Vec::new();
    let mut rest = alternative_names(der).unwrap_or_default();
    while let Some((tag, name, next)) = element(rest) {
        if tag == DNS_NAME {
            names.extend(std::str::from_utf8(name));
        }
        rest = next;
    }
    names
}

/// What is in the extension subjectAltName.
fn alternative_names(der: &[u8]) -> Option<&[u8]> {
    const EXTENSIONS: u8 = 0xa3;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const OCTETS: u8 = 0x04;
    /// 2.5.29.17
    const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    let mut rest = from_validity(der)?;
    // Validity, subject, public key, and the two unique identifiers, which hardly any certificate has.
    let extensions = loop {
        let (tag, content, next) = element(rest)?;
        if tag == EXTENSIONS {
            break content;
        }
        rest = next;
    };
    let (mut extensions, _) = expect(SEQUENCE, extensions)?;
    loop {
        let (extension, next) = expect(SEQUENCE, extensions)?;
        let (identifier, mut value) = expect(OBJECT_IDENTIFIER, extension)?;
        if identifier == SUBJECT_ALT_NAME {
            // Whether it is critical may stand before it.
            let (tag, _, after) = element(value)?;
            if tag != OCTETS {
                value = after;
            }
            let (names, _) = expect(OCTETS, value)?;
            return expect(SEQUENCE, names).map(|(names, _)| names);
        }
        extensions = next;
    }
}

const SEQUENCE: u8 = 0x30;

/// What a certificate says, from its validity on.
fn from_validity(der: &[u8]) -> Option<&[u8]> {
    const VERSION: u8 = 0xa0;
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    Some(rest)
}

/// Content and what follows of the first element, if it has this tag.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// UTCTime `YYMMDDhhmmssZ` or GeneralizedTime `YYYYMMDDhhmmssZ`.
fn moment(tag: u8, text: &[u8]) -> Option<u64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = std::array::from_fn(|at| number(&rest[2 * at..2 * at + 2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    u64::try_from(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From March on, months have 31, 30, 31, 30, 31 days, again and again.
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (0x18, "19700101000000Z", Some(0)),
            (0x17, "700101000001Z", Some(1)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x18, "20000229120000Z", Some(951_825_600)),
            (0x18, "20240301000000Z", Some(1_709_251_200)),
            (0x18, "99991231235959Z", Some(253_402_300_799)),
            (0x17, "500101000000Z", None),
            (0x17, "20240301000000Z", None),
            (0x18, "20241301000000Z", None),
            (0x18, "2024030100000xZ", None),
            (0x02, "19700101000000Z", None),
        ] {
            assert_eq!(moment(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_certificates_end_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, expected) in [(2031, 1_940_889_600), (2055, 2_698_272_000)] {
            let mut params = rcgen::CertificateParams::new(vec!["svc.default".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 7, 4);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}");
        }
    }

    #[test]
    fn names_are_those_of_the_alternative_names() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["*.a.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let name = rcgen::SanType::DnsName("b.example".try_into().unwrap());
        params.subject_alt_names.push(name);
        assert_eq!(dns_names(params.self_signed(&key).unwrap().der()), ["*.a.example", "b.example"]);
        params.subject_alt_names.clear();
        assert_eq!(dns_names(params.self_signed(&key).unwrap().der()), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..400) {
            let _ = (not_after(&bytes), dns_names(&bytes));
            let certificate = rcgen::generate_simple_self_signed(vec!["svc".to_owned()]).unwrap().cert;
            let mut der = certificate.der().to_vec();
            der.truncate(cut);
            let _ = (not_after(&der), dns_names(&der));
        }
    }
}
