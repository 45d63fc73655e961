//! ADD: as COPY, but local archives are unpacked, and files by URL and git repositories fetched.

use super::Over;
use super::copy::{Nothing, Part};
use crate::build::dockerfile;
use crate::build::download::Downloads;
use crate::build::git::{Access, Address, Commit, NamedBy};
use crate::build::remote::Remote;
use crate::build::solve::{Build, Stage};
use crate::build::source::{Source, Stage as StageSource};
use crate::build::workspace::Draft;
use crate::build::{CopyError, Error, Material, Workspace, archive, copy};
use crate::store::Digest;

/// The sources of an ADD, variables replaced.
#[derive(Default)]
struct Sources {
    /// Paths and here-documents, whose variables are not replaced yet.
    local: Vec<dockerfile::Source>,
    urls: Vec<String>,
    repositories: Vec<Address>,
}

impl Build<'_> {
    pub(super) fn add(&mut self, stage: &mut Stage, add: &dockerfile::Add, title: &str) -> Result<(), Error> {
        let mut sources = self.sources(stage, add)?;
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let checksum = match &add.checksum {
            Some(text) => checksum(&self.word(text, &get)?, add, &mut sources)?,
            None => None,
        };
        let local = dockerfile::Copy {
            sources: sources.local.clone(),
            ..add.as_copy()
        };
        let order = self.copy_order(stage, &local)?;
        self.progress.begins(title);
        let said = self.told("ADD", stage, &add.as_copy())?;
        if self.kept(stage, &said)? {
            return Ok(());
        }
        if add.sources.len() > 1 && !order.into && add.sources.len() > sources.local.len() {
            return Err(CopyError::ManyToOne.into());
        }
        let context: &dyn Source = match &self.order.context {
            Some(context) => context,
            None if order.sources.is_empty() => &Nothing,
            None => return Err(Error::NoContext),
        };
        let downloads = Downloads::fetch(
            self.store,
            &sources.urls,
            checksum.as_ref(),
            self.cache(),
            self.progress,
        )?;
        for material in downloads.materials() {
            self.note(material);
        }
        let fetched = order.of(downloads.paths());
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut drafts = Vec::new();
        for (order, source, unpack) in [
            (&order, context, add.unpack != Some(false)),
            (&fetched, &downloads as &dyn Source, add.unpack == Some(true)),
        ] {
            let mut plan = order.plan(source)?;
            if unpack {
                self.unpack(order, &mut plan, source, &mut drafts)?;
            }
            if !plan.is_empty() {
                parts.push((order, plan, source));
            }
        }
        let unpacked = order.of_archive();
        let archives: Vec<StageSource<'_>> = drafts.iter().map(|draft| StageSource(&draft.tree)).collect();
        let mut whole: Vec<Part<'_>> = Vec::new();
        for archive in &archives {
            whole.push((&unpacked, without_top(unpacked.plan(archive)?), archive));
        }
        whole.append(&mut parts);
        let over = Over::of(&local);
        self.with_repositories(stage, &order, whole, &sources.repositories, &said, over)
    }

    /// Takes archives out of the plan, and unpacks them.
    fn unpack(
        &self,
        order: &copy::Order,
        plan: &mut copy::Plan,
        source: &dyn Source,
        drafts: &mut Vec<Draft>,
    ) -> Result<(), Error> {
        let chosen = |path: &[u8]| archive::is_archive(source.open(path)?);
        for path in order.take(plan, &chosen)? {
            let name = String::from_utf8_lossy(&path).into_owned();
            let workspace = Workspace::new(self.store)?;
            let file = source
                .open(&path)
                .map_err(|error| CopyError::Read(name.clone(), error))?;
            let lower = archive::unpack(file, &name, &workspace)?;
            drafts.push(Draft::within(workspace, lower)?);
        }
        Ok(())
    }

    /// The layer, with what repositories hold, too: their commits are known before they are fetched, and decide whether
    /// they need be.
    fn with_repositories(
        &self,
        stage: &mut Stage,
        order: &copy::Order,
        parts: Vec<Part<'_>>,
        repositories: &[Address],
        said: &str,
        over: Over,
    ) -> Result<(), Error> {
        let access = Access {
            named_by: NamedBy::Dockerfile,
            secrets: &self.order.secrets,
            agent: self.order.agent(),
        };
        let whole = order.of_repository();
        let mut key = self.copy_key(stage, &parts, over)?;
        let mut commits: Vec<(&Address, Commit)> = Vec::new();
        for address in repositories {
            let commit = address.resolve(self.store, access)?;
            self.progress.output(format!("{commit}\n").as_bytes());
            key.list(&whole.words()).list(&address.identity(&commit));
            self.note(Material::repository(&address.to_string(), &commit.id));
            commits.push((address, commit));
        }
        let Some(turn) = self.turn(stage, key, said)? else {
            return Ok(());
        };
        let fetched: Result<Vec<_>, Error> = commits
            .iter()
            .map(|(address, commit)| address.check_out(self.store, access, commit))
            .collect();
        let fetched = fetched?;
        let mut parts = parts;
        for files in &fetched {
            parts.push((&whole, without_top(whole.plan(files)?), files));
        }
        self.copy_all(stage, turn, &parts, said, over)
    }

    fn sources(&self, stage: &Stage, add: &dockerfile::Add) -> Result<Sources, Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let mut sources = Sources::default();
        for source in &add.sources {
            let remote = match source {
                dockerfile::Source::Path(path) => Remote::parse(&self.word(path, &get)?)?,
                dockerfile::Source::Inline(_) => None,
            };
            match remote {
                None => sources.local.push(source.clone()),
                Some(Remote::File(url)) => sources.urls.push(url),
                Some(Remote::Repository(mut address)) => {
                    address.keep_git_dir(add.keep_git_dir);
                    sources.repositories.push(address);
                }
            }
        }
        Ok(sources)
    }
}

/// The directory that an archive or a repository comes into does not get the time of its top.
fn without_top(plan: copy::Plan) -> copy::Plan {
    copy::Plan { top: None, ..plan }
}

/// `--checksum`, which is that of one file by URL, or a commit of one repository.
fn checksum(text: &str, add: &dockerfile::Add, sources: &mut Sources) -> Result<Option<Digest>, Error> {
    let one = add.sources.len() == 1;
    if let (true, Some(address)) = (one, sources.repositories.first_mut()) {
        address.check(text)?;
        return Ok(None);
    }
    let digest = text.parse().ok().filter(|_| one && sources.urls.len() == 1);
    digest.map(Some).ok_or_else(|| Error::Value {
        what: "--checksum (sha256:… of a single source by URL, or a commit of a single git repository)",
        value: text.into(),
    })
}
