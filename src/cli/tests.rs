use std::{ffi::OsString, fs, path::Path, path::PathBuf, time::Duration};

use wsray_config::Format;

use super::{
    Afterwards, Command, Demo, Environment, Exit, Named, ReadError, Run, SourceText, Sources, Stop, Watch,
    parse,
    sources::{Stdin, read_from},
    uuid_text, version_text,
};

/// The command of `wsray` with these arguments, separated by blanks.
fn command(arguments: &str, environment: &Environment) -> Result<Command, Stop> {
    let words = std::iter::once("wsray").chain(arguments.split_whitespace());
    parse(words.map(OsString::from), environment)
}

fn sources(files: &[&str], directories: &[&str]) -> Sources {
    let named = |file: &&str| if *file == "stdin:" { Named::Stdin } else { Named::File(file.into()) };
    Sources {
        named: files.iter().map(named).collect(),
        directories: directories.iter().map(PathBuf::from).collect(),
        environment_directory: None,
        format: Format::Auto,
        lookup: vec!["config.json".into()],
    }
}

#[test]
fn every_spelling_gives_its_command() {
    let run_of = |sources| Command::Run(Run { sources, ..Run::default() });
    let run = |files: &[&str], directories: &[&str]| run_of(sources(files, directories));
    let test = |files: &[&str], directories: &[&str]| Command::Test(sources(files, directories));
    let with_format = |format| run_of(Sources { format, ..sources(&["f"], &[]) });
    let demo = |afterwards, socks_port| Command::Demo(Demo { afterwards, socks_port });
    for (arguments, expected) in [
        ("", run(&[], &[])),
        ("run", run(&[], &[])),
        ("run -c f", run(&["f"], &[])),
        ("run -c=f", run(&["f"], &[])),
        ("run -config f", run(&["f"], &[])),
        ("run -config=f", run(&["f"], &[])),
        ("run --config f", run(&["f"], &[])),
        ("run --config=f", run(&["f"], &[])),
        ("run -c a -config b --config=c", run(&["a", "b", "c"], &[])),
        ("run -confdir d -c f", run(&["f"], &["d"])),
        ("run -d d --confdir=e", run(&[], &["d", "e"])),
        ("run -c stdin:", run(&["stdin:"], &[])),
        ("run -c -", run(&["stdin:"], &[])),
        ("run -format json -c f", with_format(Format::Json)),
        ("run -format jsonc -c f", with_format(Format::Json)),
        ("run -format jsonv5 -c f", with_format(Format::JsonV5)),
        ("run --format=YAML -c f", with_format(Format::Yaml)),
        ("run -format=yml -c f", with_format(Format::Yaml)),
        ("run -format toml -c f", with_format(Format::Toml)),
        ("run -format=auto -c f", run(&["f"], &[])),
        ("run -test -c f", test(&["f"], &[])),
        ("-config f", run(&["f"], &[])),
        ("-config=f", run(&["f"], &[])),
        ("--config=f", run(&["f"], &[])),
        ("--config f", run(&["f"], &[])),
        ("-c f", run(&["f"], &[])),
        ("-confdir=d", run(&[], &["d"])),
        ("-format json -config f", with_format(Format::Json)),
        ("-test -config f", test(&["f"], &[])),
        ("-config f -test", test(&["f"], &[])),
        ("--test -c f", test(&["f"], &[])),
        ("-test", test(&[], &[])),
        ("test", test(&[], &[])),
        ("test -c f -confdir d", test(&["f"], &["d"])),
        ("-version", Command::Version),
        ("--version", Command::Version),
        ("version", Command::Version),
        ("uuid", Command::Uuid),
        ("demo", demo(Afterwards::Serve, None)),
        ("demo --once", demo(Afterwards::Exit, None)),
        ("demo -once -socks-port=1080", demo(Afterwards::Exit, Some(1080))),
        ("demo --socks-port 1080", demo(Afterwards::Serve, Some(1080))),
    ] {
        assert_eq!(command(arguments, &Environment::default()), Ok(expected), "wsray {arguments}");
    }
}

#[test]
fn a_run_is_told_how_long_to_wait_and_what_to_watch() {
    let run = |grace, watch| Ok(Command::Run(Run { sources: sources(&["f"], &[]), grace, watch }));
    for (arguments, expected) in [
        ("run -c f", run(None, Watch::Files)),
        ("run -c f --grace 30", run(Some(Duration::from_secs(30)), Watch::Files)),
        ("-config f -no-watch", run(None, Watch::Nothing)),
    ] {
        assert_eq!(command(arguments, &Environment::default()), expected, "wsray {arguments}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_what_to_write() {
    for (arguments, expected) in [
        ("config.json", "help: write wsray run -c config.json"),
        ("versoin", "'version'"),
        ("run -c", "FILE"),
        ("run --confg f", "--config"),
        ("run -format ini", "expected auto, json, jsonv5, yaml or toml"),
        ("-format protobuf", "write the configuration as text"),
        ("config.yaml", "help: write wsray run -c config.yaml"),
        ("-c https://example.com/c.json", "download it"),
        ("run extra", "extra"),
        ("run config.json", "help: write -c config.json"),
        ("test config.yaml", "help: write -c config.yaml"),
        ("version extra", "extra"),
        ("demo --socks-port 65536", "65536"),
        ("-config f run", "run"),
    ] {
        let Err(stop @ Stop::Usage(_)) = command(arguments, &Environment::default()) else {
            panic!("accepted: {arguments}")
        };
        assert_eq!(stop.exit(), Exit::Usage);
        let Stop::Usage(text) = stop else { unreachable!() };
        assert!(text.contains(expected), "wsray {arguments}: {text}");
    }
}

#[test]
fn help_names_every_command_and_the_lookup() {
    for arguments in ["-h", "-help", "--help"] {
        let Err(stop @ Stop::Help(_)) = command(arguments, &Environment::default()) else {
            panic!("{arguments}")
        };
        assert_eq!(stop.exit(), Exit::Done);
        let Stop::Help(text) = stop else { unreachable!() };
        for part in ["run", "test", "version", "uuid", "demo", "--config", "V2RAY_LOCATION_CONFIG", "23"] {
            assert!(text.contains(part), "{arguments}: {part} is missing:\n{text}");
        }
    }
    assert!(matches!(command("run --help", &Environment::default()), Err(Stop::Help(_))));
}

#[test]
fn environment_is_read_in_both_spellings() {
    let read = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, OsString)> = pairs.iter().map(|(k, v)| ((*k).into(), v.into())).collect();
        let lookup = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Environment::from_lookup(lookup, Some(Path::new("/opt/wsray/wsray")))
    };
    assert_eq!(read(&[]), Environment { program_dir: Some("/opt/wsray".into()), ..Environment::default() });
    assert_eq!(read(&[("V2RAY_LOCATION_CONFIG", "/a")]).config_dir, Some("/a".into()));
    assert_eq!(read(&[("v2ray.location.config", "/b")]).config_dir, Some("/b".into()));
    let both = read(&[("V2RAY_LOCATION_CONFIG", "/a"), ("v2ray.location.config", "/b")]);
    assert_eq!(both.config_dir, Some("/b".into()));
    assert_eq!(read(&[("V2RAY_LOCATION_CONFIG", "")]).config_dir, None);
    let more = read(&[("V2RAY_LOCATION_CONFDIR", "/d"), ("V2RAY_LOCATION_ASSET", "/e"), ("TZ", "")]);
    assert_eq!((more.confdir, more.asset_dir), (Some("/d".into()), Some("/e".into())));
    assert_eq!(more.tz.as_deref(), Some(""));
}

#[test]
fn configuration_is_looked_for_where_v2ray_looks() {
    let lookup = |environment: Environment| match command("", &environment) {
        Ok(Command::Run(run)) => run.sources.lookup,
        other => panic!("{other:?}"),
    };
    let program_dir = Some("/opt".into());
    let beside = Environment { program_dir: program_dir.clone(), ..Environment::default() };
    assert_eq!(lookup(beside), [Path::new("config.json"), Path::new("/opt/config.json")]);
    let set = Environment { config_dir: Some("/etc/v2ray".into()), program_dir, ..Environment::default() };
    assert_eq!(lookup(set), [Path::new("config.json"), Path::new("/etc/v2ray/config.json")]);
}

#[test]
fn directory_flag_wins_over_the_environment() {
    let environment = Environment { confdir: Some("/env".into()), ..Environment::default() };
    let Ok(Command::Run(Run { sources: with_flag, .. })) = command("run -confdir /flag", &environment) else {
        panic!()
    };
    assert_eq!((with_flag.directories, with_flag.environment_directory), (vec!["/flag".into()], None));
    let Ok(Command::Run(Run { sources: without, .. })) = command("run -c f", &environment) else { panic!() };
    assert_eq!((without.directories, without.environment_directory), (vec![], Some("/env".into())));
}

/// A directory of its own that goes away with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wsray-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn texts(read: Result<Vec<SourceText>, ReadError>) -> Vec<String> {
    read.unwrap().into_iter().map(|source| source.text.clone()).collect()
}

#[test]
fn named_files_come_first_then_directories_by_name() {
    let directory = Directory::new("order");
    directory.file("b.json", "2");
    directory.file("a.json", "1");
    directory.file("c.txt", "no");
    fs::create_dir(directory.0.join("d.json")).unwrap();
    let named = vec![Named::File(directory.file("z.conf", "0")), Named::Stdin];
    let sources = Sources { named, directories: vec![directory.0.clone()], ..Sources::default() };
    let read = read_from(&sources, &mut &b"stdin text"[..], Stdin::Terminal).unwrap();
    assert_eq!(read[1].name, "stdin");
    assert_eq!(read[0].name, directory.0.join("z.conf").display().to_string());
    assert_eq!(texts(Ok(read)), ["0", "stdin text", "1", "2"]);
}

#[test]
fn a_format_chooses_the_files_of_a_directory() {
    let directory = Directory::new("formats");
    for name in ["1.json", "2.JSONC", "3.yaml", "4.yml", "5.toml", "6.txt", "7"] {
        directory.file(name, name);
    }
    for (format, expected) in [
        (Format::Auto, &["1.json", "2.JSONC", "3.yaml", "4.yml", "5.toml"][..]),
        (Format::Json, &["1.json", "2.JSONC"]),
        (Format::JsonV5, &["1.json", "2.JSONC"]),
        (Format::Yaml, &["3.yaml", "4.yml"]),
        (Format::Toml, &["5.toml"]),
    ] {
        let sources = Sources { directories: vec![directory.0.clone()], format, ..Sources::default() };
        assert_eq!(texts(read_from(&sources, &mut &b""[..], Stdin::Terminal)), expected, "{format:?}");
    }
}

#[test]
fn lookup_takes_the_first_file_there_is() {
    let directory = Directory::new("lookup");
    let (missing, there) = (directory.0.join("missing.json"), directory.file("there.json", "found"));
    let lookup = |lookup: &[&PathBuf], stdin: &str, kind| {
        let lookup = lookup.iter().map(|path| (*path).clone()).collect();
        read_from(&Sources { lookup, ..Sources::default() }, &mut stdin.as_bytes(), kind)
    };
    assert_eq!(texts(lookup(&[&missing, &there], "stdin", Stdin::Data)), ["found"]);
    assert_eq!(texts(lookup(&[&missing], "stdin", Stdin::Data)), ["stdin"]);
    for (stdin, kind) in [("ignored", Stdin::Terminal), ("", Stdin::Data), (" \n", Stdin::Data)] {
        let message = lookup(&[&missing], stdin, kind).unwrap_err().to_string();
        assert!(message.contains("missing.json") && message.contains("Usage"), "{message}");
    }
}

#[test]
fn environment_directory_may_be_missing_or_empty() {
    let directory = Directory::new("environment");
    let there = directory.file("there.jsonc", "found");
    let read = |environment_directory: PathBuf| {
        let environment_directory = Some(environment_directory);
        let sources = Sources { environment_directory, lookup: vec![there.clone()], ..Sources::default() };
        texts(read_from(&sources, &mut &b""[..], Stdin::Terminal))
    };
    assert_eq!(read(directory.0.join("missing")), ["found"]);
    fs::create_dir(directory.0.join("empty")).unwrap();
    assert_eq!(read(directory.0.join("empty")), ["found"]);
    directory.file("other.json", "second");
    fs::create_dir(directory.0.join("full")).unwrap();
    directory.file("full/x.json", "full");
    assert_eq!(read(directory.0.join("full")), ["full"]);
}

#[test]
fn unreadable_sources_are_named() {
    let directory = Directory::new("unreadable");
    let message = |named: Vec<Named>, directories: Vec<PathBuf>| {
        let sources = Sources { named, directories, ..Sources::default() };
        read_from(&sources, &mut &b"\xff"[..], Stdin::Data).unwrap_err().to_string()
    };
    let missing = directory.0.join("missing.json");
    let text = message(vec![Named::File(missing.clone())], vec![]);
    assert!(text.starts_with(&format!("{}: cannot read", missing.display())), "{text}");
    assert!(message(vec![], vec![missing]).contains("missing.json: cannot read"));
    assert!(
        message(vec![], vec![directory.0.clone()])
            .ends_with("no *.json, *.jsonc, *.yaml, *.yml, *.toml file in this directory")
    );
    assert!(message(vec![Named::Stdin], vec![]).starts_with("stdin: byte 0 is not UTF-8"));
    let latin1 = directory.file("latin1.json", b"{\"a\": \"\xe4\"}");
    assert!(message(vec![Named::File(latin1)], vec![]).contains("byte 7 is not UTF-8"));
    assert!(message(vec![Named::File("/dev/zero".into())], vec![]).contains("at most 16777216 bytes"));
}

#[test]
fn version_line_begins_as_v2rays() {
    assert!(version_text().starts_with(concat!("wsray ", env!("CARGO_PKG_VERSION"), " (")));
}

#[test]
fn uuid_is_of_version_4() {
    assert_eq!(uuid_text([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(uuid_text([0; 16]), "00000000-0000-4000-8000-000000000000");
    let bytes: [u8; 16] = std::array::from_fn(|n| u8::try_from(n * 17).unwrap());
    assert_eq!(uuid_text(bytes), "00112233-4455-4677-8899-aabbccddeeff");
}
