package internal_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"

	"github.com/countersign-dev/countersign/internal/audit"
)

// The documents say what is, so what they name has to exist: the targets of
// links, commands with their flags, the Makefile's targets, kinds of record,
// codes of problems, metrics and tests.

// documents returns the module's own Markdown files by path below the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	walk(t, "..", func(path, text string) {
		if strings.HasSuffix(path, ".md") {
			out[path] = text
		}
	})
	return out
}

// sources returns the text of all Go files of a folder that are no tests, of the
// whole module for "".
func sources(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	walk(t, filepath.Join("..", dir), func(path, text string) {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			b.WriteString(text)
		}
	})
	return b.String()
}

var (
	linked  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	span    = regexp.MustCompile("`([^`]+)`")
	mark    = regexp.MustCompile("[`*]")
)

// anchors are the fragments that GitHub gives the headings of a document.
func anchors(text string) (out []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linked.ReplaceAllString(mark.ReplaceAllString(m[1], ""), "")))
	}
	return out
}

// broken lists the relative links of a document that lead nowhere. exists says
// whether there is a file or folder; docs has the documents for their anchors.
func broken(name, text string, docs map[string]string, exists func(string) bool) (found []string) {
	for _, m := range linked.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		to, fragment, _ := strings.Cut(m[1], "#")
		if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
			continue
		}
		target := name
		if to != "" {
			if target = path.Join(path.Dir(name), to); !exists(target) {
				found = append(found, m[1])
				continue
			}
		}
		if fragment != "" && !slices.Contains(anchors(docs[target]), fragment) {
			found = append(found, m[1])
		}
	}
	return found
}

func TestLinksOfDocuments(t *testing.T) {
	docs := documents(t)
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join("..", filepath.FromSlash(name)))
		return err == nil
	}
	for name, text := range docs {
		for _, to := range broken(name, text, docs, exists) {
			t.Errorf("%s: the link to %s leads nowhere", name, to)
		}
	}
	if docs["README.md"] == "" {
		t.Fatal("there is no README.md")
	}
}

// understood is what a program of ours takes, as its source says.
type understood struct{ words, flags []string }

var (
	useLine = regexp.MustCompile(`(?:Use:\s+|group\(|Switch\()"([a-z][a-z-]*)`)
	flagDef = regexp.MustCompile(`\.(?:String|Bool|Duration|Int|Int64|Uint64|StringSlice|StringArray)(?:Var)?P?\((?:&[\w.]+, )?"([a-z][a-z-]*)"(?:, "([a-z])")?`)
)

func readProgram(text string) (p understood) {
	for _, m := range useLine.FindAllStringSubmatch(text, -1) {
		p.words = append(p.words, m[1])
	}
	for _, m := range flagDef.FindAllStringSubmatch(text, -1) {
		p.flags = append(p.flags, "--"+m[1])
		if m[2] != "" {
			p.flags = append(p.flags, "-"+m[2])
		}
	}
	return p
}

// topics are commands that only have others below them.
var topics = []string{"audit", "keys", "recover", "auth", "person", "recovery", "session", "policy", "client"}

// unknown says what a command line of a program names that it does not have, ""
// if it has it all.
func (p understood) unknown(line string) string {
	words := strings.Fields(line)
	for len(words) > 0 && strings.HasPrefix(words[0], "-") { // of the root: --config FILE
		words = words[min(2, len(words)):]
	}
	if len(words) == 0 {
		return ""
	}
	names := words[:1]
	if slices.Contains(topics, words[0]) && len(words) > 1 && !strings.HasPrefix(words[1], "-") {
		names = words[:2]
	}
	for _, w := range names {
		if !slices.Contains(p.words, w) {
			return w
		}
	}
	for _, w := range words {
		flag, _, _ := strings.Cut(w, "=")
		if len(flag) > 1 && strings.HasPrefix(flag, "-") && flag != "--help" && !slices.Contains(p.flags, flag) {
			return flag
		}
	}
	return ""
}

var (
	commandLine = regexp.MustCompile(`^(?:[A-Z_]+=\S+ )*(countersignd?)(?: ([^#|>]*))?`)
	quoted      = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	makeLine    = regexp.MustCompile(`^make ([a-z-]+)`)
	makeTarget  = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// code returns what a document shows as code: the lines of its blocks, and the
// spans of its text.
func code(text string) (lines []string) {
	for _, block := range fence.FindAllString(text, -1) {
		for _, line := range strings.Split(block, "\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		lines = append(lines, strings.Join(strings.Fields(m[1]), " "))
	}
	return lines
}

func TestCommandsOfDocuments(t *testing.T) {
	programs := map[string]understood{
		"countersign":  readProgram(sources(t, "cmd/countersign")),
		"countersignd": readProgram(sources(t, "cmd/countersignd")),
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	commands, makes := 0, 0
	for name, text := range documents(t) {
		for _, line := range code(text) {
			if m := makeLine.FindStringSubmatch(line); m != nil {
				makes++
				if !slices.Contains(targets, m[1]) {
					t.Errorf("%s: the Makefile has no target %s", name, m[1])
				}
			}
			m := commandLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			commands++
			if what := programs[m[1]].unknown(quoted.ReplaceAllString(m[2], "X")); what != "" {
				t.Errorf("%s: %s has no %s: %q", name, m[1], what, line)
			}
		}
	}
	if commands < 20 || makes < 5 {
		t.Errorf("found %d commands and %d targets in the documents; the search for them is broken", commands, makes)
	}
}

// section returns the text below a heading of the second level.
func section(text, title string) string {
	_, rest, ok := strings.Cut("\n"+text, "\n## "+title+"\n")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// TestFlowsNameWhatExists holds the last two sections of each flow's page against
// the code: kinds of record, and codes.
func TestFlowsNameWhatExists(t *testing.T) {
	all := sources(t, "")
	for name, text := range documents(t) {
		if !strings.HasPrefix(name, "docs/flows/") || name == "docs/flows/README.md" {
			continue
		}
		records, answers := span.FindAllStringSubmatch(section(text, "Records"), -1), span.FindAllStringSubmatch(section(text, "Answers"), -1)
		if len(records) == 0 || len(answers) == 0 {
			t.Errorf("%s has no sections Records and Answers", name)
		}
		for _, m := range records {
			if _, ok := audit.KindOf(m[1]); !ok {
				t.Errorf("%s: there is no kind of record %s", name, m[1])
			}
		}
		for _, m := range answers {
			if !strings.Contains(all, `"`+m[1]+`"`) {
				t.Errorf("%s: nothing answers with the code %s", name, m[1])
			}
		}
	}
}

var (
	metric   = regexp.MustCompile("`(countersign_[a-z_]+)`")
	queried  = regexp.MustCompile(`\b(countersign_[a-z_]+)\b`)
	testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
)

func TestMetricsAndTestsOfDocuments(t *testing.T) {
	metrics := sources(t, "internal/server") + ofSDK(t)
	tests := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(f.text, -1) {
			tests[m[1]] = true
		}
	}
	for name, text := range documents(t) {
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(metrics, `"`+m[1]+`"`) {
				t.Errorf("%s: there is no metric %s", name, m[1])
			}
		}
		for _, rules := range alertRules(t, name, text) {
			for _, m := range queried.FindAllStringSubmatch(rules, -1) {
				if !strings.Contains(metrics, `"`+m[1]+`"`) {
					t.Errorf("%s: an alert asks for %s, and there is no such metric", name, m[1])
				}
			}
		}
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", name, m[1])
			}
		}
	}
}

// ofSDK is the file in which the SDK's metrics are.
func ofSDK(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMetricsAreDocumented: operations.md names every metric that the SDK serves.
func TestMetricsAreDocumented(t *testing.T) {
	names := regexp.MustCompile(`"(countersign_[a-z_]+)"`).FindAllStringSubmatch(ofSDK(t), -1)
	text := documents(t)["docs/operations.md"]
	if len(names) < 20 {
		t.Errorf("%d metrics", len(names))
	}
	for _, m := range names {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("docs/operations.md does not speak of %s", m[1])
		}
	}
}

// alertRules are the expressions of a document's rules for Prometheus; each has a name and
// words.
func alertRules(t *testing.T, name, text string) (out []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)```yaml\ngroups:\n.*?```").FindAllString(text, -1) {
		var rules struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For string
					Annotations      map[string]string
				}
			}
		}
		if err := yaml.UnmarshalWithOptions([]byte(strings.Trim(strings.TrimPrefix(block, "```yaml"), "`")), &rules, yaml.DisallowUnknownField()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if g.Name == "" || r.Alert == "" || r.Expr == "" || r.Annotations["summary"] == "" {
					t.Errorf("%s: a rule lacks something: %+v", name, r)
				}
				out = append(out, r.Expr)
			}
		}
	}
	return out
}

// TestReadmeShowsBothCommands keeps the two commands where a newcomer looks.
func TestReadmeShowsBothCommands(t *testing.T) {
	lines := code(documents(t)["README.md"])
	for _, want := range []string{"make run", "make test"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("README.md does not show %s", want)
		}
	}
}

// TestReadmeExportsBesideTheRepository: the first minutes are spent in a clone, where policies
// are written only to a directory that the repository does not have.
func TestReadmeExportsBesideTheRepository(t *testing.T) {
	exports := 0
	for _, l := range code(documents(t)["README.md"]) {
		dir, ok := strings.CutPrefix(l, "countersign policy export ./")
		if !ok {
			continue
		}
		exports++
		if _, err := os.Stat(filepath.Join("..", dir)); err == nil {
			t.Errorf("%s: the repository has a %s, and the command refuses to write there", l, dir)
		}
	}
	if exports == 0 {
		t.Error("README.md exports no policies")
	}
}

// TestDecisionsAreListed keeps the list of decisions whole.
func TestDecisionsAreListed(t *testing.T) {
	docs := documents(t)
	list := docs["docs/decisions/README.md"]
	for name := range docs {
		dir, file := path.Split(name)
		if dir == "docs/decisions/" && file != "README.md" && !strings.Contains(list, "("+file+")") {
			t.Errorf("docs/decisions/README.md does not list %s", file)
		}
	}
}

// TestDocumentRulesCanFail shows the rules above what they have to find.
func TestDocumentRulesCanFail(t *testing.T) {
	docs := map[string]string{"docs/a.md": "# A `b` c\n\n## Two, three\n", "README.md": ""}
	exists := func(name string) bool { return docs[name] != "" }
	for link, want := range map[string]bool{
		"a.md": true, "a.md#a-b-c": true, "#two-three": true, "a.md#nothing": false, "b.md": false, "../a.md": false, "https://example.com/x": true,
	} {
		if got := len(broken("docs/a.md", docs["docs/a.md"]+"[x]("+link+")", docs, exists)) == 0; got != want {
			t.Errorf("link %s is good: %v, want %v", link, got, want)
		}
	}
	p := readProgram(`
		Use: "login [issuer]", group("audit", "Read", x) Use: "list",
		c.Flags().StringVarP(&file, "file", "f", "", "") f.BoolVar(&a.b, "json", false, "")`)
	for line, want := range map[string]string{
		"login https://x": "", "audit list --json": "", "audit": "", "audit list -f x": "", "--config x audit list": "",
		"logout": "logout", "audit verify": "verify", "login --all": "--all", "login -x": "-x",
	} {
		if got := p.unknown(line); got != want {
			t.Errorf("%q: unknown %q, want %q", line, got, want)
		}
	}
	if got := section("# A\n\n## Records\n`a`\n\n## Answers\n`b`\n", "Records"); strings.Contains(got, "b") || !strings.Contains(got, "a") {
		t.Errorf("section: %q", got)
	}
}
