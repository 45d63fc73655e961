//! COPY and ADD: what from where to where?

use super::error::Fault;
use super::flags::Kind;
use super::mount::has_variable;
use super::parse::Request;
use super::{Add, Copy, Heredoc, Source};

impl Request<'_> {
    pub(super) fn copy(self) -> Result<Copy, Fault> {
        let flags = self.flags(&[
            ("chown", Kind::Text),
            ("chmod", Kind::Text),
            ("exclude", Kind::Texts),
            ("from", Kind::Text),
            ("link", Kind::Switch),
            ("parents", Kind::Switch),
        ])?;
        let from = flags.filled("from");
        if let Some(value) = from.as_ref().filter(|from| has_variable(from)) {
            let why = "variables are not expanded here; give the image a stage of its own, and name that";
            return Err(Fault::FlagValue {
                instruction: "COPY",
                flag: "from",
                value: value.clone(),
                why,
            });
        }
        let (sources, dest) = self.sources_and_dest()?;
        Ok(Copy {
            sources,
            dest,
            from,
            chown: flags.filled("chown"),
            chmod: flags.filled("chmod"),
            link: flags.switch("link").unwrap_or(false),
            parents: flags.switch("parents").unwrap_or(false),
            exclude: flags.texts("exclude"),
        })
    }

    pub(super) fn add(self) -> Result<Add, Fault> {
        let flags = self.flags(&[
            ("checksum", Kind::Text),
            ("chmod", Kind::Text),
            ("chown", Kind::Text),
            ("exclude", Kind::Texts),
            ("keep-git-dir", Kind::Switch),
            ("link", Kind::Switch),
            ("unpack", Kind::Switch),
        ])?;
        let (sources, dest) = self.sources_and_dest()?;
        Ok(Add {
            sources,
            dest,
            chown: flags.filled("chown"),
            chmod: flags.filled("chmod"),
            link: flags.switch("link").unwrap_or(false),
            exclude: flags.texts("exclude"),
            checksum: flags.filled("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
        })
    }

    fn sources_and_dest(self) -> Result<(Vec<Source>, String), Fault> {
        let mut words = self.json_or_fields()?;
        let dest = words
            .pop()
            .filter(|_| !words.is_empty())
            .ok_or(Fault::NoDestination(self.name))?;
        // Of two with one name, the later counts for both, as in BuildKit.
        let inline = |word: &str| {
            let named = Heredoc::of_word(word).ok().flatten()?.name;
            self.heredocs
                .iter()
                .rfind(|heredoc| heredoc.name == named)
                .cloned()
        };
        if inline(&dest).is_some() {
            return Err(Fault::HeredocAsDestination(self.name));
        }
        let source = |word: String| match inline(&word) {
            Some(heredoc) => Source::Inline(heredoc),
            None => Source::Path(word),
        };
        Ok((words.into_iter().map(source).collect(), dest))
    }
}
