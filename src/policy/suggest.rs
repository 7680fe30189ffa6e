//! "Did you mean": the nearest of the words that would have been accepted.

/// The candidate nearest to `word`, when it is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_what_is_near_is_offered() {
        let keys = ["rules", "route", "service", "upstream"];
        assert_eq!(nearest("rulez", keys.into_iter()), Some("rules"));
        assert_eq!(nearest("Rules", keys.into_iter()), Some("rules"));
        assert_eq!(nearest("upstraem", keys.into_iter()), Some("upstream"));
        assert_eq!(nearest("authentication", keys.into_iter()), None);
    }
}
