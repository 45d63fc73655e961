//! `build --provenance`, `--sbom`: is what is said of an image where BuildKit's readers look for it
//! (`docs/attestations/attestation-storage.md`), what it should say (`slsa-definitions.md`), and nothing that it should not?

use std::fs;

use serde_json::{Value, json};

use crate::common::hostile::{Answer, Hostile};
use crate::common::repositories::Repositories;
use crate::common::{Done, Mode, Project, Registry, fed, skopeo};
use crate::layout::{Layout, built, parsed};

const DOCKERFILE: &str = "FROM base\n\
    ARG GREETING=none\n\
    RUN --mount=type=secret,id=key,required=true --mount=type=secret,id=perhaps \\\n\
        echo $GREETING > /greeting\n";

/// The documentation's example, field by field (`slsa-provenance.md`).
#[test]
fn provenance_says_what_it_was_made_of() {
    let project = Project::new();
    let key = project.bryo.scratch("key");
    fs::write(&key, "the-secret-itself").unwrap();
    let secret = format!("--secret=id=key,src={}", key.display());
    // Of what is given twice the last counts.
    let flags = [
        &*secret,
        "--build-arg=GREETING=before",
        "--build-arg=GREETING=hello",
        "--label=a=a",
        "--label=a=b",
    ];
    let platform = format!("{}/{}", "linux", project.image("base", "{{.Architecture}}"));
    let layout = built(
        &project,
        DOCKERFILE,
        &[&flags[..], &["--provenance=true"]].concat(),
        &[],
    );
    let [statement] = &layout.statements()[..] else {
        panic!("one")
    };
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let name = format!("pkg:docker/made@latest?platform={}", platform.replace('/', "%2F"));
    assert_eq!(statement["subject"][0]["name"], name);
    let made = &statement["predicate"]["buildDefinition"];
    assert_eq!(
        made["buildType"],
        "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
    );
    assert_eq!(
        made["externalParameters"],
        json!({
            "configSource": { "path": "Dockerfile" },
            "request": {
                "frontend": "dockerfile.v0",
                "args": { "build-arg:GREETING": "hello", "label:a": "b" },
                "secrets": [{ "id": "key" }, { "id": "perhaps", "optional": true }],
                "locals": [{ "name": "context" }, { "name": "dockerfile" }],
            },
        })
    );
    assert_eq!(made["internalParameters"]["builderPlatform"], platform);
    let base = &made["resolvedDependencies"];
    let name = format!("pkg:docker/base@latest?platform={}", platform.replace('/', "%2F"));
    assert_eq!(
        (base.as_array().unwrap().len(), &base[0]["uri"]),
        (1, &json!(name))
    );
    let run = &statement["predicate"]["runDetails"];
    assert_eq!(run["builder"]["id"], "");
    let metadata = &run["metadata"];
    assert!(
        metadata["startedOn"].as_str() < metadata["finishedOn"].as_str(),
        "{metadata}"
    );
    assert!(metadata["invocationId"].as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(
        metadata["buildkit_completeness"],
        json!({ "request": true, "resolvedDependencies": false })
    );
    // The graph (`buildConfig` there): what it stands on, the RUN, and the result.
    let steps = made["internalParameters"]["buildConfig"]["llbDefinition"]
        .as_array()
        .unwrap();
    let inputs: Vec<&Value> = steps.iter().map(|step| &step["inputs"]).collect();
    assert_eq!(inputs, [&Value::Null, &json!(["step0:0"]), &json!(["step1:0"])]);
    assert_eq!(
        steps[0]["op"]["Op"]["source"]["identifier"],
        "docker-image://docker.io/library/base:latest"
    );
    let meta = &steps[1]["op"]["Op"]["exec"]["meta"];
    assert_eq!(
        meta["args"],
        json!(["/bin/sh", "-c", "echo $GREETING > /greeting"])
    );
    assert!(
        meta["env"].as_array().unwrap().contains(&json!("GREETING=hello")),
        "{meta}"
    );
    let locations = &metadata["buildkit_metadata"]["source"]["locations"];
    assert_eq!(
        locations["step1"]["locations"][0]["ranges"][0]["start"]["line"],
        3
    );
    let source = &metadata["buildkit_metadata"]["source"]["infos"][0];
    assert_eq!(source["filename"], "Dockerfile");
    assert!(
        source["data"]
            .as_str()
            .is_some_and(|data| data.starts_with("RlJPTSBiYXNl")),
        "FROM base"
    );
    assert!(!layout.has("the-secret-itself"));
}

#[test]
fn the_least_provenance_has_no_values() {
    let project = Project::new();
    let key = project.bryo.scratch("key");
    fs::write(&key, "x").unwrap();
    let secret = format!("--secret=id=key,src={}", key.display());
    let dockerfile = "FROM base\nARG WORD=none\nRUN --mount=type=secret,id=key true\n";
    let flags = [
        &*secret,
        "--build-arg=WORD=very-private",
        "--label=a=labelled-so",
        "--attest=type=provenance,mode=min,builder-id=https://ci/1,reproducible=true",
        "--annotation=index:c=d",
    ];
    let layout = built(&project, dockerfile, &flags, &[]);
    assert_eq!(layout.list()["annotations"], json!({ "c": "d" }));
    let [statement] = &layout.statements()[..] else {
        panic!("one")
    };
    let text = statement.to_string();
    for word in ["very-private", "labelled-so", "WORD", "\"key\""] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let run = &statement["predicate"]["runDetails"];
    assert_eq!(run["builder"]["id"], "https://ci/1");
    assert_eq!(run["metadata"]["buildkit_reproducible"], true);
    assert_eq!(run["metadata"]["buildkit_metadata"], json!({}));
    assert_eq!(run["metadata"]["buildkit_completeness"]["request"], false);
    let version = ["--provenance=mode=min,version=v0.2", "--target=0"];
    let layout = built(&project, "FROM base\n", &version, &[]);
    let [statement] = &layout.statements()[..] else {
        panic!("one")
    };
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v0.2");
    let predicate = &statement["predicate"];
    assert_eq!(predicate["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(
        predicate["invocation"]["configSource"]["entryPoint"],
        "Dockerfile"
    );
    assert_eq!(
        predicate["invocation"]["parameters"]["args"],
        json!({ "target": "0" })
    );
    assert_eq!(predicate["materials"].as_array().unwrap().len(), 1);
}

/// A name of the base that a registry has, too.
fn pulled(project: &Project) -> String {
    let tags: Vec<String> = serde_json::from_str(&project.image("base", "{{json .RepoTags}}")).unwrap();
    let mut tags = tags.into_iter();
    tags.find(|tag| tag.contains(':') && tag.contains('/')).unwrap()
}

/// Stages that workers build, and steps that the cache has, are told of like others.
#[test]
fn all_that_stages_use_is_told() {
    let project = Project::new();
    let known: Vec<String> = serde_json::from_str(&project.image("base", "{{json .RepoDigests}}")).unwrap();
    let pulled = pulled(&project);
    let (_, digest) = known[0].split_once("@sha256:").unwrap();
    let dockerfile = format!(
        "FROM base AS one\nCOPY --from={pulled} /bin/busybox /one\n\
         FROM base AS two\nRUN --mount=from={pulled},target=/x true > /two\n\
         FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    );
    let mut all = Vec::new();
    for flags in [
        &["--provenance=true", "--jobs=2"][..],
        &["--provenance=true", "--jobs=1"],
    ] {
        let layout = built(&project, &dockerfile, flags, &[]);
        let [statement] = &layout.statements()[..] else {
            panic!("one")
        };
        let used = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        let (name, tag) = pulled.rsplit_once(':').unwrap();
        let uri = format!("pkg:docker/{name}@{tag}?platform=");
        let found = used
            .as_array()
            .unwrap()
            .iter()
            .find(|used| used["uri"].as_str().is_some_and(|found| found.starts_with(&uri)));
        assert_eq!(
            found.map(|found| &found["digest"]["sha256"]),
            Some(&json!(digest)),
            "{used}"
        );
        assert_eq!(used.as_array().unwrap().len(), 2, "{used}");
        all.push(used.clone());
    }
    assert_eq!(all[0], all[1], "made by workers, and from the cache");
}

/// "configSource" and "resolvedDependencies" of the definitions: what can be fetched again, with its digest.
#[test]
fn what_was_fetched_is_told_with_its_digest() {
    let project = Project::new();
    let served = Repositories::serve(&project.bryo.scratch("repositories"));
    let server = Hostile::serve(|_| Answer::new(200, "x"));
    let url = format!("http://{}/file?token=", server.address());
    let repository = served.repository("sample");
    let base = pulled(&project);
    repository.write(
        "Dockerfile",
        &format!("FROM {base}\nARG TOKEN=hidden-here\nADD {url}$TOKEN /added\nCOPY Dockerfile /\n"),
    );
    let commit = repository.commit();
    let address = served.url("sample");
    let to = project.bryo.scratch("layout");
    let output = format!("--output=type=oci,tar=false,dest={}", to.display());
    let words = ["build", "--provenance=mode=min", &output, &address];
    let done = Done::of(project.bryo.command(words).env_remove("SOURCE_DATE_EPOCH"));
    assert!(done.status.success(), "{done}");
    let [statement] = &Layout(to).statements()[..] else {
        panic!("one")
    };
    let made = &statement["predicate"]["buildDefinition"];
    assert_eq!(
        made["externalParameters"],
        json!({
            "configSource": { "uri": address, "digest": { "sha1": commit }, "path": "Dockerfile" },
            "request": { "frontend": "dockerfile.v0", "args": {} },
        })
    );
    let used = made["resolvedDependencies"].as_array().unwrap();
    assert_eq!(used.len(), 3, "{used:?}");
    assert!(!statement.to_string().contains("hidden-here"));
    // sha256 of "x".
    let file = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    for wanted in [
        json!({ "uri": url, "digest": { "sha256": file } }),
        json!({ "uri": address, "digest": { "sha1": commit } }),
    ] {
        assert!(used.contains(&wanted), "{wanted} in {used:?}");
    }
    let metadata = &statement["predicate"]["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_hermetic"], true, "no RUN");
    assert_eq!(
        metadata["buildkit_completeness"],
        json!({ "request": true, "resolvedDependencies": true })
    );
}

/// "complete" and "hermetic" are said of what came from where it can be fetched again, and of nothing else.
#[test]
fn what_nobody_can_fetch_again_is_not_claimed() {
    let project = Project::new();
    let served = Repositories::serve(&project.bryo.scratch("repositories"));
    let repository = served.repository("sample");
    let address = served.url("sample");
    let predicate = |dockerfile: &str, flags: &[&str], input: &str| {
        repository.write("Dockerfile", dockerfile);
        let commit = repository.commit();
        let to = project.bryo.scratch("layout");
        let _ = fs::remove_dir_all(&to);
        let output = format!("--output=type=oci,tar=false,dest={}", to.display());
        let words = ["build", "--provenance=mode=min", &output, &address];
        let done = fed(project.bryo.command(words).args(flags), input);
        assert!(done.status.success(), "{done}");
        let [statement] = &Layout(to).statements()[..] else {
            panic!("one")
        };
        (statement["predicate"].clone(), commit)
    };
    let claims = |predicate: &Value| {
        let metadata = &predicate["runDetails"]["metadata"];
        let complete = &metadata["buildkit_completeness"];
        let claims = [
            &complete["resolvedDependencies"],
            &metadata["buildkit_hermetic"],
            &complete["request"],
        ];
        claims.map(|claim| claim == true)
    };
    let base = pulled(&project);
    let id = project.image("base", "{{.Id}}");
    let short = &id.trim_start_matches("sha256:")[..12];
    let volume = format!("{}:/in", project.path("").display());
    let run = format!("FROM {base}\nRUN --network=none ls /in > /out; true\n");
    for (dockerfile, flags, wanted) in [
        (&*run, &[][..], [true, true, true]),
        (&run, &["-v", &volume], [false, false, false]),
        (&run, &["--ulimit=nofile=100"], [true, true, false]),
        (&format!("FROM {base}\nRUN true\n"), &[], [true, false, true]),
        ("FROM base\n", &[], [false, false, true]),
        (&format!("FROM {short}\n"), &[], [false, false, true]),
        (&format!("FROM {id}\n"), &[], [false, false, true]),
        (
            &format!("FROM {base}\nCOPY --from={short} /bin /\n"),
            &[],
            [false, false, true],
        ),
    ] {
        let (predicate, _) = predicate(dockerfile, flags, "");
        assert_eq!(claims(&predicate), wanted, "{dockerfile} {flags:?}");
        assert!(!predicate.to_string().contains(&format!("docker/{short}")));
    }
    // The repository has another Dockerfile than that which was built.
    let input = format!("FROM {base}\nCOPY Dockerfile /\n");
    let (predicate, commit) = predicate("FROM base\nRUN false\n", &["-f", "-"], &input);
    let made = &predicate["buildDefinition"];
    assert_eq!(
        made["externalParameters"],
        json!({
            "configSource": { "path": "Dockerfile" },
            "request": {
                "frontend": "dockerfile.v0",
                "args": { "context": address },
                "locals": [{ "name": "dockerfile" }],
            },
        })
    );
    let context = json!({ "uri": address, "digest": { "sha1": commit } });
    let used = made["resolvedDependencies"].as_array().unwrap();
    assert!(used.contains(&context), "{used:?}");
    assert_eq!(claims(&predicate), [false, false, true]);
}

#[test]
fn pushed_images_have_it_and_can_be_used() {
    let project = Project::new();
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let name = format!("{}/said:1", registry.address());
    let dockerfile = "FROM base\nRUN echo yes > /file\n";
    let build = |flags: &[&str]| {
        let file = project.bryo.scratch("Dockerfile");
        fs::write(&file, dockerfile).unwrap();
        let mut command = project.bryo.command(["build", "--push", "-t", &name, "-f"]);
        command.arg(file).args(flags).arg(project.path(""));
        let done = Done::of(command.env_remove("SOURCE_DATE_EPOCH"));
        assert!(done.status.success(), "{done}");
    };
    let raw = || {
        let raw = skopeo([
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{name}"),
        ]);
        parsed(raw.stdout.as_bytes())
    };
    build(&[]);
    assert_eq!(
        raw()["mediaType"],
        "application/vnd.oci.image.manifest.v1+json",
        "nobody asked"
    );
    build(&["--provenance=mode=min"]);
    assert_eq!(raw()["mediaType"], "application/vnd.oci.image.index.v1+json");
    let to = project.bryo.scratch("copied");
    let (from, into) = (format!("docker://{name}"), format!("oci:{}", to.display()));
    let done = skopeo(["copy", "--all", "--src-tls-verify=false", &from, &into]);
    assert!(done.status.success(), "{done}");
    let statements = Layout(to).statements();
    let subject = statements[0]["subject"][0]["name"].as_str().unwrap();
    let wanted = format!("pkg:docker/{}/said@1?platform=linux%2F", registry.address());
    assert!(subject.starts_with(&wanted), "{subject}");
    // The store has the image; pulled again, what fits this machine is taken.
    project.bryo.ok(["rmi", &name]);
    project.bryo.ok(["pull", "-q", &name]);
    assert_eq!(project.bryo.ok(["run", "--rm", &name, "cat", "/file"]), "yes\n");
}

/// reproducible-builds.org: then it does not say when.
#[test]
fn equal_builds_say_the_same() {
    let project = Project::new();
    let dockerfile = "FROM base\nRUN date > /dev/null && echo x > /file\n";
    let list = |epoch: &str| {
        let flags = ["--provenance=true", "--no-cache", "--rewrite-timestamp"];
        let layout = built(&project, dockerfile, &flags, &[("SOURCE_DATE_EPOCH", epoch)]);
        let [statement] = &layout.statements()[..] else {
            panic!("one")
        };
        let metadata = &statement["predicate"]["runDetails"]["metadata"];
        for field in ["startedOn", "finishedOn", "invocationId"] {
            assert_eq!(metadata.get(field), None);
        }
        layout.list()
    };
    assert_eq!(list("1700000000"), list("1700000000"));
}

#[test]
fn outputs_without_a_list_have_none() {
    let project = Project::new();
    let dest = |name: &str| project.bryo.scratch(name).display().to_string();
    for (output, why) in [
        (vec![], "an image of the store has no list"),
        (
            vec![format!("--output=type=docker,dest={}", dest("x.tar"))],
            "Docker's format has no list",
        ),
        (
            vec![format!("--output={}", dest("tree"))],
            "a tree alone has none",
        ),
        (
            vec!["--format=docker".into(), "--push".into()],
            "they are in OCI's format",
        ),
    ] {
        let output: Vec<&str> = output.iter().map(String::as_str).collect();
        for flag in ["--provenance=true", "--sbom=true"] {
            let said = project.fails("FROM base\n", &[&output[..], &[flag]].concat());
            assert!(
                said.contains(why) && said.contains(flag.split('=').next().unwrap()),
                "{said}"
            );
        }
    }
    // Where it can be had, and nowhere else.
    let archive = dest("oci.tar");
    let flags = [
        "--load",
        &format!("--output=type=oci,dest={archive}"),
        "--provenance=mode=min,inline-only=true",
    ];
    project.build("FROM base\nCOPY . /y/\n", &flags);
    let raw = skopeo(["inspect", "--raw", &format!("oci-archive:{archive}")]);
    assert_eq!(
        parsed(raw.stdout.as_bytes())["manifests"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let said = project.bryo.ok(["load", "-i", &archive]);
    assert!(said.contains("made:latest"), "{said}");
}

/// A scanner by the protocol (`sbom-protocol.md`).
const SCANNER: &str = r#"FROM base
COPY <<'SCRIPT' /scan
set -e
test -z "$BUILDKIT_SCAN_SOURCE_EXTRAS"
touch /tmp/mine /elsewhere
if touch "$BUILDKIT_SCAN_SOURCE/x" 2> /dev/null; then exit 3; fi
echo scanning
found=$(cd "$BUILDKIT_SCAN_SOURCE" && find app -type f | sort | sed 's/.*/{"fileName":"&"}/' | tr '\n' ',')
cat > "$BUILDKIT_SCAN_DESTINATION/$(basename "$BUILDKIT_SCAN_SOURCE").spdx.json" <<E
{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document",
 "predicate":{"SPDXID":"SPDXRef-DOCUMENT","name":"$BUILDKIT_SCAN_FORMAT","files":[${found%,}]}}
E
SCRIPT
ENTRYPOINT ["/bin/sh"]
CMD ["/scan"]
"#;

#[test]
fn a_scanner_says_what_is_in_the_image() {
    let project = Project::new();
    project.write("app/one", "1");
    project.write("app/two words", "2");
    project.build(SCANNER, &["-t", "scanner"]);
    let dockerfile = "FROM base AS other\nRUN mkdir /app && touch /app/of-another-stage\n\
        FROM base\nCOPY app /app\nRUN rm /app/one && touch /app/three\nCOPY --from=other /bin/true /\n";
    let flags = [
        "--attest=type=sbom,generator=scanner,FORMAT=short",
        "--provenance=mode=min",
    ];
    let layout = built(&project, dockerfile, &flags, &[]);
    let statements = layout.statements();
    let [sbom, provenance] = &statements[..] else {
        panic!("two: {statements:?}")
    };
    assert_eq!(sbom["predicateType"], "https://spdx.dev/Document");
    assert_eq!(
        sbom["predicate"],
        json!({
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": "short",
            "files": [{ "fileName": "app/three" }, { "fileName": "app/two words" }],
        })
    );
    let used = &provenance["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!(
        used.as_array().unwrap().len(),
        1,
        "the scanner is none of it: {used}"
    );
    // Nothing of the scan is in the image.
    project.build(dockerfile, &[]);
    assert_eq!(project.sh("ls -d /run/src /elsewhere 2> /dev/null || true"), "");
    project.is_clean();
}

#[test]
fn a_scanner_that_fails_is_told() {
    let project = Project::new();
    let output = format!(
        "--output=type=oci,dest={}",
        project.bryo.scratch("x.tar").display()
    );
    project.build(
        "FROM base\nCMD [\"sh\", \"-c\", \"echo broken; exit 7\"]\n",
        &["-t", "broken"],
    );
    project.build("FROM base\nCMD [\"true\"]\n", &["-t", "silent"]);
    project.build(
        "FROM base\nCMD [\"ln\", \"-s\", \"/etc/passwd\", \"/run/out/sbom.spdx.json\"]\n",
        &["-t", "sly"],
    );
    project.build("FROM scratch\nCOPY . /x/\n", &["-t", "nothing"]);
    project.build(
        "FROM base\nCMD [\"sh\", \"-c\", \"cd /run/out && mkdir d && touch d/f && chmod 700 d && chown -R 1000 d || true\"]\n",
        &["-t", "greedy"],
    );
    for (scanner, why) in [
        ("broken", "exit code: 7"),
        ("silent", "no SBOM by the scanner silent: it left nothing"),
        ("sly", "it left \"sbom.spdx.json\", which cannot be read"),
        ("nothing", "it has neither entrypoint nor command"),
        ("missing", "missing"),
        // A directory, which may be another's; no later build clears it away.
        ("greedy", "it left \"d\", which "),
    ] {
        let generator = format!("--sbom=generator={scanner}");
        let said = project.fails("FROM base\n", &[&output, &generator, "--pull=never"]);
        assert!(said.contains(why), "{said}");
    }
    let left = fs::read_dir(project.bryo.state().join("builds")).unwrap();
    assert_eq!(left.count(), 0, "what it left went with it, whoever's it is");
    project.is_clean();
}
