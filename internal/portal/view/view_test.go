package view

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/internal/problem"
)

func render(t *testing.T, c testCase) (string, *html.Node) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := Render(context.Background(), w, http.StatusOK, c.page, c.view); err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return w.Body.String(), doc
}

func attr(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

var inline = map[string]bool{"a": true, "bdi": true, "code": true, "em": true, "span": true, "strong": true, "time": true}

// text is what an element says, blocks parted by spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		switch {
		case c.Type == html.TextNode:
			b.WriteString(c.Data)
		case c.Type == html.ElementNode && !inline[c.Data]:
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func elements(doc *html.Node, tag string) (out []*html.Node) {
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && (tag == "" || n.Data == tag) {
			out = append(out, n)
		}
	}
	return out
}

// balanced fails when an element is left open, closed twice, or nested so that
// the parser of a browser would move it.
func balanced(t *testing.T, src string) {
	t.Helper()
	void := map[string]bool{"meta": true, "link": true, "img": true, "input": true, "br": true, "hr": true}
	z := html.NewTokenizer(strings.NewReader(src))
	var open []string
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("left open: %v", open)
			}
			return
		case html.StartTagToken:
			tag, _ := z.TagName()
			name := string(tag)
			if void[name] {
				continue
			}
			for _, o := range open {
				if o == "p" && (name == "p" || name == "div" || name == "ul" || name == "form" || name == "dl" || name[0] == 'h' && len(name) == 2) {
					t.Errorf("<%s> inside <p>", name)
				}
				if o == name && (name == "form" || name == "a" || name == "button") {
					t.Errorf("<%s> inside <%s>", name, name)
				}
			}
			open = append(open, name)
		case html.EndTagToken:
			tag, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(tag) {
				t.Fatalf("</%s> closes %v", tag, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func TestEveryPageInEveryState(t *testing.T) {
	seen := map[string]bool{}
	types := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] {
			t.Fatalf("two cases are called %s", c.name)
		}
		seen[c.name] = true
		types[fmt.Sprintf("%T", c.view)] = true
		t.Run(c.name, func(t *testing.T) {
			src, doc := render(t, c)
			balanced(t, src)
			checkPage(t, src, doc)
			if w := len(src) + len(static.Body(static.CSS)) + len(static.Body(static.JS)) + len(static.Body(static.Mark)); w > 60<<10 {
				t.Errorf("weighs %d bytes with what it loads, more than 60 KB", w)
			}
		})
	}
	if len(types) < 24 {
		t.Errorf("only %d kinds of page are tested", len(types))
	}
}

func checkPage(t *testing.T, src string, doc *html.Node) {
	t.Helper()
	for _, bad := range []string{"<style", " style=", "%!", "ERROR", "<nil>", "0001"} {
		if strings.Contains(src, bad) {
			t.Errorf("contains %q", bad)
		}
	}
	titles, heads, mains := elements(doc, "title"), elements(doc, "h1"), elements(doc, "main")
	if len(titles) != 1 || !strings.HasSuffix(text(titles[0]), " – auth.example.com") {
		t.Errorf("title is wrong: %v", len(titles))
	}
	visible := 0
	for _, h := range heads {
		if !within(h, "hidden") {
			visible++
		}
	}
	if visible != 1 || len(mains) != 1 {
		t.Errorf("%d visible h1, %d main; want one each", visible, len(mains))
	}
	ids := map[string]bool{}
	for _, n := range elements(doc, "") {
		if id, ok := attr(n, "id"); ok {
			if ids[id] {
				t.Errorf("id %q twice", id)
			}
			ids[id] = true
		}
	}
	focus := 0
	for _, n := range elements(doc, "") {
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s>: inline script", n.Data, a.Key)
			}
		}
		if _, ok := attr(n, "autofocus"); ok {
			focus++
		}
		checkElement(t, n, ids)
	}
	if focus > 1 {
		t.Errorf("%d elements want the focus", focus)
	}
}

func within(n *html.Node, key string) bool {
	for ; n != nil; n = n.Parent {
		if _, ok := attr(n, key); ok {
			return true
		}
	}
	return false
}

func checkElement(t *testing.T, n *html.Node, ids map[string]bool) {
	t.Helper()
	for _, key := range []string{"for", "aria-describedby"} {
		if v, ok := attr(n, key); ok {
			for _, id := range strings.Fields(v) {
				if !ids[id] {
					t.Errorf("<%s %s=%q> leads nowhere", n.Data, key, id)
				}
			}
		}
	}
	switch n.Data {
	case "script":
		if src, ok := attr(n, "src"); !ok || !strings.HasPrefix(src, static.Prefix) || n.FirstChild != nil {
			t.Errorf("inline or foreign script")
		}
	case "a":
		href, ok := attr(n, "href")
		if !ok || text(n) == "" {
			t.Errorf("a link without address or text: %q %q", href, text(n))
		}
		if strings.HasPrefix(href, "#") && !ids[href[1:]] {
			t.Errorf("%s leads nowhere", href)
		}
	case "button":
		if _, ok := attr(n, "type"); !ok || text(n) == "" {
			t.Errorf("a button without type or text")
		}
	case "input":
		typ, _ := attr(n, "type")
		id, _ := attr(n, "id")
		if typ != "hidden" && (id == "" || !labelled(n, id)) {
			t.Errorf("input %q has no label", id)
		}
	case "form":
		m, _ := attr(n, "method")
		if _, ok := attr(n, "action"); !ok {
			if _, ok := attr(n, "data-passkey"); !ok {
				t.Errorf("form without action")
			}
		}
		if m != "post" && m != "get" {
			t.Errorf("form with method %q", m)
		}
	case "img":
		if _, ok := attr(n, "alt"); !ok {
			t.Errorf("img without alt")
		}
	case "time":
		v, _ := attr(n, "datetime")
		if at, err := time.Parse(time.RFC3339, v); err != nil || at.IsZero() {
			t.Errorf("time %q", v)
		}
	}
}

func labelled(n *html.Node, id string) bool {
	root := n
	for root.Parent != nil {
		root = root.Parent
	}
	for _, l := range elements(root, "label") {
		if f, _ := attr(l, "for"); f == id && text(l) != "" {
			return true
		}
	}
	return false
}

func TestHostileTextStaysText(t *testing.T) {
	for _, c := range evil() {
		t.Run(fmt.Sprintf("%T", c.view), func(t *testing.T) {
			src, doc := render(t, c)
			balanced(t, src)
			if strings.Contains(src, "<script>") {
				t.Errorf("hostile markup got through")
			}
			if n := len(elements(doc, "script")); n != 1 {
				t.Errorf("%d scripts, want ours only", n)
			}
			for _, n := range elements(doc, "") {
				for _, key := range []string{"href", "action"} {
					if v, _ := attr(n, key); strings.HasPrefix(v, "javascript:") {
						t.Errorf("<%s %s=%q>", n.Data, key, v)
					}
				}
			}
		})
	}
}

// What an app supplies about itself may not hide or reorder what is seen.
func TestSuppliedTextShowsWhatIsInvisible(t *testing.T) {
	app := App{Name: "Bank\u202e\u200bgnp", Return: "аpple.example"} // the first letter is Cyrillic
	for _, v := range []View{SignIn{App: &app}, StepUp{App: app}, Consent{App: app}} {
		src, doc := render(t, testCase{"", dana(""), v})
		if strings.ContainsAny(src, "\u202e\u200b") {
			t.Errorf("%T: an invisible character got through", v)
		}
		body := text(elements(doc, "main")[0])
		for _, want := range []string{"Bank‹U+202E›‹U+200B›gnp", "not verified", "xn--pple-43d.example", "letters outside a–z"} {
			if !strings.Contains(body, want) {
				t.Errorf("%T does not say %q", v, want)
			}
		}
	}
}

func TestVisible(t *testing.T) {
	for _, x := range [][2]string{
		{"Dana", "Dana"},
		{"  Zoë 李 ", "Zoë 李"},
		{"a\u00a0b\u2066c\ufeffd\x00e\nf", "a‹U+00A0›b‹U+2066›c‹U+FEFF›d‹U+0000›e‹U+000A›f"},
		{"Z\u0301\u0301\u0301\u0301\u0301\u0301", "Z\u0301\u0301"},
		{"bad\xff", "bad\ufffd"},
		{"\U000e0041x\u3164", "‹U+E0041›x‹U+3164›"},
		{"123456789012345", "123456789012…"},
		{"", ""},
	} {
		if got := Visible(x[0], 12); got != x[1] && !strings.HasSuffix(x[1], "›") {
			t.Errorf("Visible(%q) = %q, want %q", x[0], got, x[1])
		} else if full := Visible(x[0], 40); strings.HasSuffix(x[1], "›") && full != x[1] {
			t.Errorf("Visible(%q) = %q, want %q", x[0], full, x[1])
		}
	}
}

func TestHost(t *testing.T) {
	for _, x := range [][2]string{
		{"Auth.Example.com", "auth.example.com"},
		{"localhost:8080", "localhost:8080"},
		{"127.0.0.1", "127.0.0.1"},
		{"[::1]:80", "[::1]:80"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"a<b>", "a<b>"},
		{"exa\u202emple.com", "exa‹U+202E›mple.com"},
	} {
		if got := Host(x[0]); got != x[1] && !strings.HasPrefix(got, "xn--") {
			t.Errorf("Host(%q) = %q, want %q", x[0], got, x[1])
		}
		if strings.ContainsRune(Host(x[0]), '\u202e') {
			t.Errorf("Host(%q) keeps a control", x[0])
		}
	}
}

func TestTimesInWords(t *testing.T) {
	p := out()
	for _, x := range []struct {
		at   time.Time
		want string
	}{
		{ago(5 * time.Second), "just now"},
		{in(5 * time.Second), "in a moment"},
		{ago(time.Minute), "1 minute ago"},
		{in(15 * time.Minute), "in 15 minutes"},
		{ago(26 * time.Hour), "26 hours ago"},
		{ago(3 * day), "3 days ago"},
		{ago(60 * day), "24 September"},
		{ago(400 * day), "19 October 2025"},
	} {
		if got := p.relative(x.at); got != x.want {
			t.Errorf("%v: %q, want %q", testNow.Sub(x.at), got, x.want)
		}
	}
	if got := p.clock(in(27 * time.Minute)); got != "14:32 UTC" {
		t.Errorf("clock: %q", got)
	}
	if got := p.clock(in(12 * time.Hour)); got != "24 Nov 02:05 UTC" {
		t.Errorf("clock tomorrow: %q", got)
	}
	if span(5*time.Minute) != "5 minutes" || span(12*time.Hour) != "12 hours" || span(time.Second) != "1 second" || span(72*time.Hour) != "3 days" {
		t.Error("span")
	}
}

func TestTitlesStartWithTheState(t *testing.T) {
	got := map[string]string{}
	for _, c := range cases() {
		got[c.name] = c.view.Title()
	}
	for name, want := range map[string]string{
		"setup-expired":     "Expired – Set up Countersign",
		"setup-3-second":    "Step 3 of 5: Add a second passkey – Set up Countersign",
		"stepup":            "Confirm it's you to rotate the production key",
		"stepup-completed":  "Already completed – Confirm it's you",
		"consent-again":     "Continue to Countersign command line",
		"overview":          "2 things to do – Overview",
		"end-device":        "End everything on “dana-laptop”?",
		"fault-not-found":   "Not found – There's nothing at this address",
		"fault-unavailable": "Busy – The server is busy or restarting",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// The sentences of the design that are fixed.
func TestWords(t *testing.T) {
	says := func(name string, want ...string) {
		t.Helper()
		for _, c := range cases() {
			if c.name != name {
				continue
			}
			_, doc := render(t, c)
			body := text(elements(doc, "main")[0])
			for _, w := range want {
				if !strings.Contains(body, w) {
					t.Errorf("%s does not say %q:\n%s", name, w, body)
				}
			}
			return
		}
		t.Errorf("no case %s", name)
	}
	says("setup-expired", "countersignd setup-link", "It worked until 13:45 UTC. Nothing was changed.")
	says("setup-closed", "Setup was completed by Dana Okafor on 3 November 2026, 14:05 UTC. It can")
	says("stepup", "Confirm it's you to rotate the production key", "From the command line on dana-laptop", "Yours was used 3 hours ago", "5 minutes, for this app", "Not you?")
	says("stepup-completed", "This request was already completed in another window.")
	says("stepup-wrong-user", "This was requested for dana@example.com. You're signed in as sam@example.com.", "Switch account")
	says("stepup-impossible", "this needs a hardware-backed passkey. None is registered", "Add a security key")
	says("stepup-impossible-admin", "Ask an administrator. Write to security@example.com.", "Reference 7F3A9C")
	says("consent", "Verified by its domain: board.example.net", "It may read", "It may change", "It may administer", "Will ask you again each time: a passkey used in the last 5 minutes", "Deny")
	says("consent-again", "You already approved this on 3 November. Nothing changed.", "an app on this computer")
	says("consent-pinned", "Verified by its domain: editor.example.com", "Your administrators keep its description here.", "an app on this computer", "Any program on this computer can use this name.")
	says("consent-elsewhere", "The answer goes to callbacks.example.org", "That is not the app's own domain.")
	says("consent-changed", "Since then it has changed what it says about itself", "New")
	says("consent-unverified", "Name supplied by the app, not verified", "It registered itself. Nobody checked who made it.")
	says("consent-registered-again", "You already approved this on 3 November. Nothing changed.", "It registered itself.", "Deny")
	says("signin-locked", "Too many attempts. You can try again at 14:32 UTC, or use a passkey now.")
	says("passkey-remove-only", "This is your only passkey. Add another before removing it.")
	says("sessions", "Ending it ends 2 devices, 3 sessions and 3 apps.", "Ending it ends 1 app.", "This session", "May release:read release:publish")
	says("end-session-here", "you'll have to sign in again", "End it and 1 app")
	says("activity-empty", "Nothing yet. Your first sign-in will show up in a few seconds.")
	says("invitation", "Dana Okafor (dana@example.com) invites you to create an account at auth.example.com, as administrator.")
	says("invite-made", "shown only now", "until 26 Nov 14:05 UTC.")
	says("fault-unknown-client", "We don't know this app", "abc-4711", "remove the connection in the app and add it again", "Reference 7F3A9C")
	says("fault-throttled", "You can try again at 14:32 UTC (in 27 minutes).")
	says("fault-unavailable", "Reload this page")
	for _, c := range cases() {
		src, _ := render(t, c)
		for _, never := range []string{"try again later", "Something went wrong", "Oops", "!<", "sql: secret"} {
			if strings.Contains(src, never) {
				t.Errorf("%s says %q", c.name, never)
			}
		}
		if spaceBeforeStop.MatchString(src) {
			t.Errorf("%s has a space before a full stop or comma: %q", c.name, spaceBeforeStop.FindString(src))
		}
	}
}

var spaceBeforeStop = regexp.MustCompile(`>\s+[.,:;](\s|<)`)

func TestConsentAsksOnceOrTwice(t *testing.T) {
	buttons := func(name string) (out []string) {
		for _, c := range cases() {
			if c.name == name {
				_, doc := render(t, c)
				for _, b := range elements(doc, "button") {
					if v, ok := attr(b, "value"); ok {
						out = append(out, v+" "+text(b))
					}
				}
			}
		}
		return out
	}
	if d := cmp.Diff([]string{"allow Allow Release board", "deny Deny"}, buttons("consent")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"allow Continue", "deny Deny", "copy Allow it, and show me the address to paste there"}, buttons("consent-registered-again")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"allow Continue"}, buttons("consent-again")); d != "" {
		t.Error(d)
	}
}

func TestHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	if err := Render(context.Background(), w, http.StatusNotFound, out(), SignOut{}); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusNotFound {
		t.Errorf("status %d", w.Code)
	}
	for k, want := range map[string]string{
		"Cache-Control":              "no-store",
		"Content-Type":               "text/html; charset=utf-8",
		"Cross-Origin-Opener-Policy": "same-origin",
		"X-Content-Type-Options":     "nosniff",
		"Referrer-Policy":            "same-origin",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
			"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'; form-action 'self'",
	} {
		if got := w.Header().Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	h := http.Header{}
	Headers(h, "http://127.0.0.1:5000", "com.app:", "http://[::1]:99", "https://x.example; script-src *", "javascript:", "https://*.example", "https://ok.example")
	if got := h.Get("Content-Security-Policy"); !strings.HasSuffix(got, "form-action 'self' http://127.0.0.1:5000 com.app: http: https://ok.example") {
		t.Errorf("form-action: %s", got)
	}
}

func TestFaultOfErrorKeepsCausesPrivate(t *testing.T) {
	for _, x := range []struct {
		err    error
		status int
		detail string
	}{
		{fmt.Errorf("store: %w", os.ErrClosed), 500, "unexpected"},
		{problem.New(problem.NotFound, "x", "").Because(os.ErrClosed), 404, "removed"},
		{fmt.Errorf("x: %w", problem.New(problem.Denied, "x", "Only administrators may.")), 403, "Only administrators may."},
		{problem.New(problem.Throttled, "x", ""), 429, "wait"},
		{problem.New(problem.Unavailable, "x", ""), 503, "completely or not at all"},
		{problem.New(problem.Unauthenticated, "x", ""), 401, "nothing was changed"},
		{problem.New(problem.Conflict, "x", "Renamed."), 409, "Renamed."},
		{problem.New(problem.Invalid, "x", "Too long."), 400, "Too long."},
		{problem.New("novel", "x", "leak"), 500, "unexpected"},
	} {
		status, f := OfError(x.err, testNow, "7F3A9C")
		if status != x.status || !strings.Contains(f.Detail, x.detail) || f.Ref != "7F3A9C" || strings.Contains(f.Detail, "closed") {
			t.Errorf("%v: %d %q", x.err, status, f.Detail)
		}
	}
}

// TestPreview writes every page to a folder, to be looked at in a browser over
// any file server: COUNTERSIGN_PREVIEW=/tmp/pages go test -run Preview.
func TestPreview(t *testing.T) {
	dir := os.Getenv("COUNTERSIGN_PREVIEW")
	if dir == "" {
		t.Skip("COUNTERSIGN_PREVIEW names no folder")
	}
	write := func(name string, body []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{static.CSS, static.JS, static.Mark} {
		write(static.Path(name), static.Body(name))
	}
	for _, c := range cases() {
		src, _ := render(t, c)
		write(c.name+".html", []byte(src))
	}
}
