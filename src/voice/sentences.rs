//! Cuts a model's words into pieces that can be spoken: whole sentences, and a first piece as early as it makes sense.

/// The first piece of a turn may end at a comma once it is so long.
const FIRST_PIECE: usize = 40;
/// A piece without an end is cut at a blank when it is so long.
const LONGEST: usize = 400;

/// Words that wait for the end of their sentence.
#[derive(Default)]
pub(super) struct Sentences {
    waiting: String,
    any: bool,
}

impl Sentences {
    /// Adds words; gives back what can be spoken now, each piece with a blank at its end.
    pub(super) fn add(&mut self, words: &str) -> Option<String> {
        self.waiting.push_str(words);
        let cut = self.cut()?;
        let rest = self.waiting.split_off(cut);
        let piece = std::mem::replace(&mut self.waiting, rest);
        self.any = true;
        Some(spoken(&piece)).filter(|piece| !piece.trim().is_empty())
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.waiting);
        Some(spoken(&rest)).filter(|rest| !rest.trim().is_empty())
    }

    /// Behind the last end of a sentence that is sure to be one: a blank follows it.
    fn cut(&self) -> Option<usize> {
        let text = &self.waiting;
        let ends = |marks: &str| {
            let pairs = text.char_indices().zip(text.chars().skip(1));
            let found = pairs.filter(|((_, mark), next)| marks.contains(*mark) && next.is_whitespace()).last();
            found.map(|((at, mark), _)| at + mark.len_utf8() + 1)
        };
        let sentence = text.rfind('\n').map(|at| at + 1).max(ends(".!?…:;。！？"));
        let comma = (!self.any && text.len() >= FIRST_PIECE).then(|| ends(",–—")).flatten();
        let long = (text.len() >= LONGEST).then(|| text.rfind(' ').map(|at| at + 1)).flatten();
        sentence.or(comma).or(long).filter(|cut| text.is_char_boundary(*cut))
    }
}

fn spoken(piece: &str) -> String {
    let mut piece = piece.trim_end().to_owned();
    piece.push(' ');
    piece
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(parts: &[&str]) -> Vec<String> {
        let mut sentences = Sentences::default();
        let mut pieces: Vec<_> = parts.iter().filter_map(|part| sentences.add(part)).collect();
        pieces.extend(sentences.rest());
        pieces
    }

    #[test]
    fn whole_sentences_are_spoken_as_soon_as_they_are_there() {
        assert_eq!(pieces(&["Hel", "lo. How", " are you", "? Fine"]), ["Hello. ", "How are you? ", "Fine "]);
        assert_eq!(pieces(&["It is 3.5 percent"]), ["It is 3.5 percent "], "no end within a number");
        let first = pieces(&["Well, I would say that this depends on you, ", "and on me."]);
        assert_eq!(first, ["Well, I would say that this depends on you, ", "and on me. "]);
    }

    proptest! {
        #[test]
        fn no_word_is_lost_or_doubled(parts in prop::collection::vec("[a-zäé .,?!\n–]{0,12}", 0..30)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&pieces(&parts).concat()), letters(&parts.concat()));
        }
    }
}
