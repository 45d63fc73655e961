//! Each line: a template, and what Go's text/template (with Docker's functions) makes of it over [`data`].

use serde_json::{Value, json};

use super::Template;

fn data() -> Value {
    json!({
        "Name": "web", "Count": 3, "Ratio": 1.5, "On": true, "Off": false, "None": null, "Empty": "",
        "Tags": ["a:1", "b:2"], "Nothing": [],
        "Config": { "Env": ["PATH=/bin", "X=1"], "Labels": { "org.x": "yes", "v": "2" }, "Cmd": null },
        "Ports": { "80/tcp": [{ "HostPort": "8080" }], "443/tcp": null },
    })
}

fn render(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    template.render(&data()).map_err(|error| error.to_string())
}

fn check(cases: &[(&str, &str)]) {
    for (template, wanted) in cases {
        assert_eq!(render(template).as_deref(), Ok(*wanted), "{template}");
    }
}

#[test]
fn fields_and_text() {
    check(&[
        ("plain", "plain"),
        ("{{.Name}}:{{.Count}}", "web:3"),
        ("{{ .Name }}-{{$.Name}}", "web-web"),
        (
            "{{.Config.Env}} {{.Config.Labels}}",
            "[PATH=/bin X=1] map[org.x:yes v:2]",
        ),
        ("{{.None}} {{.Config.Cmd}}", "<no value> <no value>"),
        ("{{.Config.Labels.v}} {{.Config.Labels.w}}", "2 <no value>"),
        ("{{.Ratio}} {{.On}}", "1.5 true"),
        ("{{(index .Tags 0)}} {{(.Config).Labels.v}}", "a:1 2"),
        ("{{\"a\\tb\\x41\\u00e9\"}}{{`\\n`}}{{'a'}}", "a\tbAé\\n97"),
        (
            "{{1_000}} {{0x10}} {{-5}} {{1e3}} {{1e21}} {{123456.5}} {{1234567.5}} {{1e-5}}",
            "1000 16 -5 1000 1e+21 123456.5 1.2345675e+06 1e-05",
        ),
    ]);
}

#[test]
fn white_space_is_trimmed_where_asked() {
    check(&[
        ("a {{- .Name -}} b", "awebb"),
        ("a {{.Name -}} \n b", "a webb"),
        ("a {{/* note */}} b{{- /* note */ -}} c", "a  bc"),
        ("{{ -3 }} {{- 3}}", "-33"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("{{if .On}}y{{else}}n{{end}}{{if .Off}}y{{else}}n{{end}}", "yn"),
        ("{{if .Empty}}1{{else if .Count}}2{{else}}3{{end}}", "2"),
        (
            "{{with .Config}}{{.Labels.v}}{{end}}{{with .None}}x{{else}}{{.Name}}{{end}}",
            "2web",
        ),
        ("{{with .None}}a{{else with .Name}}{{.}}{{end}}", "web"),
        (
            "{{if and .On (eq .Count 3)}}y{{end}}{{if or .Off .Empty}}y{{else}}n{{end}}",
            "yn",
        ),
        (
            "{{and .On .Name}} {{or .Empty .Count}} {{not .On}}",
            "web 3 false",
        ),
        (
            "{{if or .On (index .Nothing 5)}}not evaluated{{end}}",
            "not evaluated",
        ),
        (
            "{{eq .Name \"x\" \"web\"}} {{ne .Count 3}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge \"b\" \"a\"}}",
            "true false true true false true",
        ),
    ]);
}

#[test]
fn loops_and_variables() {
    check(&[
        ("{{range .Tags}}[{{.}}]{{end}}", "[a:1][b:2]"),
        (
            "{{range $i, $t := .Tags}}{{if $i}}, {{end}}{{$t}}{{end}}",
            "a:1, b:2",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "org.x=yes;v=2;",
        ),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        (
            "{{range $i, $t := .Tags}}{{if eq $i 0}}{{continue}}{{end}}{{$t}}{{end}}",
            "b:2",
        ),
        ("{{range $i, $t := .Tags}}{{$t}}{{break}}{{end}}", "a:1"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .On}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{with $y := .Name}}{{$y}}{{end}}", "web"),
        (
            "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}{{block \"u\" .Count}}({{.}}){{end}}",
            "<web>(3)",
        ),
    ]);
}

#[test]
fn functions() {
    check(&[
        (
            "{{json .Config.Labels}} {{json .None}} {{json \"<&>\"}}",
            "{\"org.x\":\"yes\",\"v\":\"2\"} null \"<&>\"",
        ),
        (
            "{{join .Tags \", \"}}|{{upper .Name}}|{{lower \"AB\"}}|{{title \"ab cd\"}}",
            "a:1, b:2|WEB|ab|Ab Cd",
        ),
        (
            "{{split \"a,b\" \",\"}} {{truncate \"abcdef\" 3}} [{{pad \"x\" 1 2}}]",
            "[a b] abc [ x  ]",
        ),
        ("{{len .Tags}} {{len .Name}} {{len .None}}", "2 3 0"),
        (
            "{{index .Tags 1}} {{index .Config.Labels \"org.x\"}}[{{index .Config.Labels \"no\"}}]",
            "b:2 yes[]",
        ),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{index .Ports \"80/tcp\" 0}}", "map[HostPort:8080]"),
        (
            "{{slice .Name 1}} {{slice .Name 0 2}} {{slice .Tags 1 2}}",
            "eb we [b:2]",
        ),
        ("{{.Name | upper | printf \"%s!\"}}", "WEB!"),
        ("{{.Tags | len}} {{\"x\" | printf \"%s-%s\" .Name}}", "2 web-x"),
        ("{{print 1 2 \"a\" 3}} {{println \"a\" 1}}", "1 2a3 a 1\n"),
        (
            "{{html \"<a&b>\"}} {{urlquery \"a b/c\"}} {{js \"it's\"}}",
            "&lt;a&amp;b&gt; a+b%2Fc it\\'s",
        ),
    ]);
}

#[test]
fn printf_verbs() {
    check(&[
        (
            "{{printf \"%5s|%-5s|%05d|%+d|%x|%q|%t|%v|%%\" \"a\" \"b\" 42 7 255 \"q\\\"\" true .Tags}}",
            "    a|b    |00042|+7|ff|\"q\\\"\"|true|[a:1 b:2]|%",
        ),
        (
            "{{printf \"%.2f %6.1f %e %.2s %*d\" 3.14159 2.0 1500.0 \"abc\" 4 7}}",
            "3.14    2.0 1.500000e+03 ab    7",
        ),
        (
            "{{printf \"%d\" \"x\"}} {{printf \"%s\"}} {{printf \"a\" 1}}",
            "%!d(string=x) %!s(MISSING) a%!(EXTRA int=1)",
        ),
        (
            "{{printf \"%s\" 1}} {{printf \"%d\" 1.5}} {{printf \"%v\" .None}}",
            "%!s(int=1) %!d(float64=1.5) <nil>",
        ),
    ]);
}

#[test]
fn mistakes_are_said() {
    let cases = [
        (
            "{{.Nope}}",
            "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        ("{{.Name.X}}", "can't evaluate field X in type string"),
        ("{{.None.X}}", "nil pointer evaluating interface {}.X"),
        ("{{.Name", "template parsing error: template: :1: unclosed action"),
        (
            "a\n{{if .On}}x",
            "template parsing error: template: :2: unexpected EOF",
        ),
        ("{{nope .Name}}", "function \"nope\" not defined"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{index .Tags 9}}", "error calling index: index out of range: 9"),
        ("{{eq 1 \"a\"}}", "incompatible types for comparison"),
        ("{{$x}}", "undefined variable \"$x\""),
        (
            "{{.Name \"a\"}}",
            "Name has arguments but cannot be invoked as function",
        ),
        ("{{1 | 2}}", "non executable command in pipeline stage 2"),
        ("{{break}}", "{{break}} outside {{range}}"),
        (
            "{{define \"t\"}}{{template \"t\" .}}{{end}}{{template \"t\" .}}",
            "exceeded maximum template depth",
        ),
        ("{{\"a}}", "unterminated quoted string"),
        ("{{}}", "missing value for command"),
    ];
    for (template, wanted) in cases {
        let error = render(template).expect_err(template);
        assert!(error.contains(wanted), "{template}: {error}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    assert!(render(&"{{if .On}}".repeat(10_000)).is_err());
    assert!(render(&format!("{{{{{}1}}}}", "(".repeat(10_000))).is_err());
}
