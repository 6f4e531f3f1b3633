//! Pure: amounts of CPU and memory, as Kubernetes writes them.

/// Reports whether two amounts are the same; the server writes them in its own form.
pub(crate) fn same(one: &str, other: &str) -> bool {
    match (thousandths(one), thousandths(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Reads the amounts the schema lets through: decimals, `m`, `Ki`, `Mi`, `Gi`, and what the server may make of them.
pub(crate) fn thousandths(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 8] = [
        ("Ki", 1000 << 10),
        ("Mi", 1000 << 20),
        ("Gi", 1000 << 30),
        ("Ti", 1000 << 40),
        ("k", 1_000_000),
        ("M", 1_000_000_000),
        ("G", 1_000_000_000_000),
        ("m", 1),
    ];
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1000));
    match digits.split_once('.') {
        None => digits.parse::<u128>().ok()?.checked_mul(unit),
        Some((whole, fraction)) if fraction.len() <= 3 => {
            let whole: u128 = whole.parse().ok()?;
            let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            let fraction: u128 = fraction.parse().ok()?;
            whole.checked_mul(unit)?.checked_add(fraction * unit / scale)
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_every_form() {
        for (one, other) in
            [("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("0100m", "0.1"), ("1.500", "1500m")]
        {
            assert!(same(one, other), "{one} and {other}");
        }
        assert!(!same("1", "2") && !same("1Gi", "1G") && !same("lots", "lots"));
        assert!(thousandths("999999999Gi") > thousandths("999999999Mi"));
    }
}
