package oauth

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the answers of the conversations anew")

// shownHeaders are the headers of an answer that a conversation shows.
var shownHeaders = []string{
	"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Allow",
	"Cache-Control", "Content-Type", "DPoP-Nonce", "ETag", "Location", "Referrer-Policy", "Retry-After", "WWW-Authenticate",
}

// conversation holds what is known by name: ${name} in requests, and in answers.
type conversation struct {
	r    *rig
	vars map[string]string
}

var placeholder = regexp.MustCompile(`\$\{([a-z_]+)\}`)

// ask sends a request written as METHOD PATH, headers, an empty line, a body.
func (c *conversation) ask(t *testing.T, text string) answer {
	text = placeholder.ReplaceAllStringFunc(text, func(s string) string {
		v, ok := c.vars[s[2:len(s)-1]]
		if !ok {
			t.Errorf("nothing is known as %s", s)
		}
		return v
	})
	head, body, _ := strings.Cut(text, "\n\n")
	lines := bufio.NewScanner(strings.NewReader(head))
	lines.Scan()
	method, path, _ := strings.Cut(lines.Text(), " ")
	var opts []option
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		if name == "Basic" {
			id, pass, _ := strings.Cut(value, " ")
			opts = append(opts, basic(id, pass))
			continue
		}
		opts = append(opts, with(name, value))
	}
	typ := ""
	if body = strings.ReplaceAll(strings.TrimSpace(body), "\n", ""); body != "" {
		typ = formType
	}
	return c.r.send(0, method, path, typ, strings.NewReader(body), opts...)
}

// learn takes from an answer what later requests use.
func (c *conversation) learn(a answer) {
	if u, err := url.Parse(a.header.Get("Location")); err == nil {
		for name, as := range map[string]string{"code": "code", "tx": "interaction"} {
			if v := u.Query().Get(name); v != "" {
				c.vars[as] = v
			}
		}
	}
	var m map[string]any
	if json.Unmarshal([]byte(a.body), &m) == nil {
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			if v, ok := m[name].(string); ok {
				c.vars[name] = v
			}
		}
	}
}

var noise = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`), "$${jwt}"},
	{regexp.MustCompile(`"jti":"rec_\w+"`), `"jti":"$${record}"`},
	{regexp.MustCompile(`"lin":\[[^\]]*\]`), `"lin":["$${handles}"]`},
	{regexp.MustCompile(`"sid":"[\w-]{12}"`), `"sid":"$${handle}"`},
	{regexp.MustCompile(`"keys":\[.*\]`), `"keys":["$${keys}"]`},
	{regexp.MustCompile(`(?m)^(DPoP-Nonce|ETag): .*$`), "$1: $${random}"},
	{regexp.MustCompile(`Reference [0-9A-F]{6}`), "Reference $${ref}"},
}

// show writes an answer with names for what is random.
func (c *conversation) show(a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", a.status, http.StatusText(a.status))
	for _, h := range shownHeaders {
		for _, v := range a.header.Values(h) {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	if a.header.Get("Content-Type") != "text/html; charset=utf-8" && a.body != "" {
		b.WriteString("\n" + strings.TrimSuffix(a.body, "\n") + "\n")
	}
	out := b.String()
	names := make([]string, 0, len(c.vars))
	for n := range c.vars {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y string) int { return len(c.vars[y]) - len(c.vars[x]) })
	for _, n := range names {
		out = strings.ReplaceAll(out, c.vars[n], "${"+n+"}")
	}
	for _, n := range noise {
		out = n.re.ReplaceAllString(out, n.by)
	}
	return out
}

// The conversations in testdata/wire: what is sent, and every byte that matters
// of what comes back. -update writes the answers.
func TestConversations(t *testing.T) {
	t.Parallel()
	files := got(filepath.Glob("testdata/wire/*.txtar"))(t)
	if len(files) == 0 {
		t.Fatal("no conversations")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			r := onSQLite(t)
			c := &conversation{r, map[string]string{
				"session": r.ses, "challenge": r.verifierDigest, "verifier": r.verifier, "web_secret": r.webSecret, "svc_secret": r.svcSecret, "rs_secret": r.rsSecret,
				"subject": r.person.Subject, "service": r.service.Subject,
			}}
			ar := got(txtar.ParseFile(file))(t)
			var out []txtar.File
			for i := 0; i < len(ar.Files); i++ {
				f := ar.Files[i]
				a := c.ask(t, string(f.Data))
				c.learn(a)
				shown := c.show(a)
				out = append(out, f, txtar.File{Name: "answer", Data: []byte(shown)})
				if i+1 < len(ar.Files) && ar.Files[i+1].Name == "answer" {
					i++
					if diff := cmp.Diff(string(ar.Files[i].Data), shown); diff != "" && !*update {
						t.Errorf("%s:\n%s", f.Name, diff)
					}
				} else if !*update {
					t.Errorf("%s has no answer; run with -update", f.Name)
				}
			}
			if *update {
				ok(t, os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: ar.Comment, Files: out}), 0o644))
			}
		})
	}
}

// TestErrorsAreSaidWhole: an error_description is ASCII (RFC 6749 §5.2), and what is
// not is left out of it, so that the number of a section would stand there alone.
func TestErrorsAreSaidWhole(t *testing.T) {
	t.Parallel()
	files := slices.DeleteFunc(got(filepath.Glob("*.go"))(t), func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, name := range files {
		set := token.NewFileSet()
		ast.Inspect(got(parser.ParseFile(set, name, nil, 0))(t), func(n ast.Node) bool {
			if x, is := n.(*ast.BasicLit); is && x.Kind == token.STRING && strings.Contains(x.Value, "§") {
				t.Errorf("%s: write section in %s", set.Position(x.Pos()), x.Value)
			}
			return true
		})
	}
}
