package trust

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestCanaries plants secrets wherever a caller can put one, uses all that the
// server gives out, and looks for them in its log at the most talkative level,
// its metrics, its audit log, its errors, and whatever else it writes; the
// database keeps none in the clear.
func TestCanaries(t *testing.T) {
	databases(t, 1, 1, func(t *testing.T, dsn string, _ int) {
		c := &canaries{world: newWorld(t, t.TempDir(), dsn, nil), secrets: map[string]string{}}
		c.start()
		link, err := os.ReadFile(filepath.Join(c.dir, "setup-link"))
		check(t, err)
		c.secret("setup link", strings.TrimSpace(string(link)[strings.IndexByte(string(link), '#')+1:]))
		b := c.person()
		c.uses(b)
		c.plants(b)
		said := map[string]string{"metrics": c.fetch(c.ops + "/metrics")}
		said["audit list"] = c.command("audit", "list", "-n", "1000")
		said["audit export"] = c.command("audit", "export")
		pages := []string{"/account/activity", "/admin/audit", "/account/sessions"}
		for _, p := range pages {
			a, err := b.Get(p)
			check(t, err)
			said["page "+p] = a.Body
		}
		run := c.run
		c.stop()
		said["log"] = run.Said()
		if !strings.Contains(said["log"], "/oauth/token") {
			t.Errorf("the log says nothing: %s", tail(said["log"]))
		}
		for i, e := range c.errors {
			said[fmt.Sprintf("error %d", i)] = e
		}
		found := 0
		for name, s := range c.secrets {
			for where, text := range said {
				if strings.Contains(text, s) {
					found++
					t.Errorf("%s is in %s", name, where)
				}
			}
		}
		found += c.atRest()
		report(t, "planted secrets, "+engine(dsn), "%d secrets, %d errors provoked: %d found in log, metrics, audit log, pages, errors or files", len(c.secrets), len(c.errors), found)
	})
}

type canaries struct {
	*world
	secrets map[string]string
	errors  []string
}

func (c *canaries) secret(name, value string) {
	c.t.Helper()
	if len(value) < 16 {
		c.t.Fatalf("%s is no secret: %q", name, value)
	}
	c.secrets[name] = value
}

// uses goes through all that gives out secrets.
func (c *canaries) uses(b *actor.Browser) {
	c.t.Helper()
	for _, name := range []string{"cs_session", "cs_device", "cs_browser"} {
		c.secret("cookie "+name, b.Cookie(name))
	}
	r := c.app.NewRequest(theAPI, theScope)
	back, err := b.Authorize(r.Query)
	check(c.t, err)
	c.secret("code", back.Get("code"))
	first, err := c.app.Redeem(r, back.Get("code"))
	check(c.t, err)
	next, err := c.app.Refresh(first.Refresh)
	check(c.t, err)
	for i, t := range []actor.Tokens{first, next} {
		c.secret(fmt.Sprintf("access token %d", i), t.Access)
		c.secret(fmt.Sprintf("refresh token %d", i), t.Refresh)
	}
	active, err := c.api.Introspect(next.Access)
	if !active || err != nil {
		c.t.Fatalf("introspection: %v %v", active, err)
	}
	a, err := c.keyed.Assertion()
	check(c.t, err)
	_, err = c.keyed.Credentials(a)
	check(c.t, err)
	c.secret("client assertion", a)
	_, err = c.machine.Credentials("")
	check(c.t, err)
	c.secret("client secret", c.machine.Secret)
	c.secret("client secret of the app", c.app.Secret)
	if c.dsn != "" {
		if u, err := url.Parse(c.dsn); err == nil && u.User != nil {
			if p, ok := u.User.Password(); ok && len(p) >= 16 {
				c.secret("password of the database", p)
			}
		}
	}
	_, err = c.app.Form("/oauth/revoke", url.Values{"token": {next.Refresh}})
	check(c.t, err)
}

// plants sends canaries in every place of requests that fail.
func (c *canaries) plants(b *actor.Browser) {
	c.t.Helper()
	n := 0
	canary := func(place string) string {
		n++
		v := fmt.Sprintf("canary%04dsong%s", n, strings.Repeat("z", 20))
		c.secrets[fmt.Sprintf("canary %d in %s", n, place)] = v
		return v
	}
	form := map[string][]string{
		"/oauth/token":         {"client_secret", "client_assertion", "code", "refresh_token", "code_verifier", "password", "subject_token", "device_code"},
		"/oauth/introspect":    {"token", "client_secret", "client_assertion"},
		"/oauth/revoke":        {"token", "client_secret", "client_assertion"},
		"/signin/options":      {"tx", "secret"},
		"/setup/open":          {"secret"},
		"/invite/open":         {"secret"},
		"/setup/name":          {"tx", "secret"},
		"/account/end":         {"id"},
		"/v1/people":           {"password"},
		"/oauth/nothing-there": {"token"},
	}
	for path, names := range form {
		for _, grant := range []string{"authorization_code", "refresh_token", "client_credentials", "password"} {
			q := url.Values{"grant_type": {grant}, "client_id": {"app"}}
			j := map[string]any{}
			for _, name := range names {
				v := canary(path + " " + name)
				q.Set(name, v)
				j[name] = v
			}
			c.send(http.MethodPost, path, "application/x-www-form-urlencoded", q.Encode(), nil)
			c.send(http.MethodPost, path+"?token="+canary("query of "+path), "application/json", fmt.Sprintf(`{"secret":%q,"credential":{"id":%q}}`, canary("JSON of "+path), canary("credential of "+path)), nil)
			c.send(http.MethodPost, path, "application/json", `{"secret":"`+canary("broken JSON of "+path), nil)
			c.send(http.MethodPost, path, "application/x-www-form-urlencoded", "a=%zz&token="+canary("broken form of "+path), nil)
			c.send(http.MethodPost, path, "multipart/form-data; boundary=x", "--x\r\n\r\n"+canary("multipart of "+path), nil)
		}
	}
	headers := map[string]func(string) string{
		"Authorization": func(v string) string { return "Bearer " + v }, "DPoP": func(v string) string { return v },
		"Cookie": func(v string) string { return "cs_session=" + v + "; cs_device=" + v + "; cs_browser=" + v }, "X-Api-Key": func(v string) string { return v },
	}
	for name, make := range headers {
		for _, path := range []string{"/v1/me", "/v1/people", "/oauth/userinfo", "/oauth/token", "/account", "/v1/revocations/snapshot?aud=x", "/oauth/authorize"} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				c.send(method, path, "", "", http.Header{name: {make(canary(name + " at " + path))}})
			}
		}
	}
	c.send(http.MethodPost, "/oauth/token", "application/x-www-form-urlencoded", "grant_type=client_credentials",
		http.Header{"Authorization": {"Basic bWFjaGluZTpjYW5hcnk="}})
	for _, p := range []string{"/setup", "/invite", "/oauth/continue"} {
		c.send(http.MethodGet, p+"?tx="+canary("query of "+p), "", "", nil)
	}
	_ = b
}

// send sends a request and keeps the answer if it is an error. What a page
// repeats of an address it was called with is not one.
func (c *canaries) send(method, path, contentType, body string, header http.Header) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.issuer+path, strings.NewReader(body))
	check(c.t, err)
	for name, v := range header {
		req.Header[name] = v
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if method == http.MethodPost {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Origin", c.issuer)
	}
	resp, err := c.machine.HTTP.Do(req)
	check(c.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	check(c.t, err)
	if resp.StatusCode >= 500 {
		c.t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if resp.StatusCode >= 400 {
		c.errors = append(c.errors, string(text)+" "+fmt.Sprint(resp.Header))
	}
}

func (c *canaries) fetch(address string) string {
	c.t.Helper()
	resp, err := probe.Get(address)
	check(c.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	check(c.t, err)
	if resp.StatusCode != http.StatusOK || len(text) == 0 {
		c.t.Fatalf("%s: %d", address, resp.StatusCode)
	}
	return string(text)
}

func (c *canaries) command(args ...string) string {
	c.t.Helper()
	r, err := program.Exec(context.Background(), program.Environment([]string{"COUNTERSIGN_"}), program.Build(c.t, "countersignd"), append([]string{"--config", c.file}, args...)...)
	check(c.t, err)
	if r.Exit != 0 || r.Stdout == "" {
		c.t.Fatalf("%v: exit %d %s", args, r.Exit, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

// atRest looks into every file that the server wrote, and every table.
func (c *canaries) atRest() (found int) {
	c.t.Helper()
	files := map[string][]byte{}
	check(c.t, filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		// The file of the setup link is there to be read; the link is spent.
		if err != nil || d.IsDir() || path == c.file || d.Name() == "setup-link" {
			return err
		}
		files[filepath.Base(path)], err = os.ReadFile(path)
		return err
	}))
	if c.dsn != "" {
		files["the database"] = c.dump()
	}
	for name, s := range c.secrets {
		for where, text := range files {
			if bytes.Contains(text, []byte(s)) {
				found++
				c.t.Errorf("%s is in the clear in %s", name, where)
			}
		}
	}
	return found
}

// dump is all that a PostgreSQL database holds, as text.
func (c *canaries) dump() []byte {
	c.t.Helper()
	db := c.db()
	rows, err := db.Query(`SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`)
	check(c.t, err)
	var names []string
	for rows.Next() {
		var n string
		check(c.t, rows.Scan(&n))
		names = append(names, n)
	}
	check(c.t, rows.Err())
	var all bytes.Buffer
	for _, n := range names {
		var text *string
		check(c.t, db.QueryRow(fmt.Sprintf(`SELECT string_agg(encode(convert_to(t::text, 'UTF8'), 'escape'), E'\n') FROM %q t`, n)).Scan(&text))
		if text != nil {
			all.WriteString(*text)
		}
	}
	if all.Len() == 0 {
		c.t.Error("the database is empty")
	}
	return all.Bytes()
}
