package ladder

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/test/internal/program"
)

// reported says of somebody what an EDR agent would, as often as it is worth.
func (d *deployment) reported(username, kind string, points int) {
	d.t.Helper()
	p, err := d.state.Store.PersonByUsername(d.t.Context(), username)
	check(d.t, err)
	r := profile.Report{
		ID: fmt.Sprint("sig_", points), Kind: kind, About: risk.AboutPerson, Thing: p.ID, Person: p.ID,
		Points: points, Source: "edr", Name: "EDR", At: d.now(), Until: d.now().Add(24 * time.Hour),
	}
	_, err = d.state.Do.Do(d.t.Context(), act.Intent{
		Action: policy.SandboxSeed, Kind: audit.SignalReported, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{profile.Told{Report: r}}}, nil
		},
	})
	check(d.t, err)
}

// shell is somebody's command line, signed in.
type shell struct {
	*terminal
	who *somebody
}

// signsIn signs somebody in at a command line of their own.
func (s *somebody) signsIn() *shell {
	s.d.t.Helper()
	c := &shell{s.d.terminal(), s}
	if r := c.confirmed("login", s.d.issuer); r.Exit != 0 {
		s.d.t.Fatalf("login: %+v", r)
	}
	return c
}

// confirmed runs a command that opens the browser, does what the pages ask, and gives
// how the command went on by itself.
func (c *shell) confirmed(args ...string) program.Result {
	c.t.Helper()
	address, done := c.asks(c.t.Context(), args...)
	c.who.goesOn(address)
	return <-done
}

// says runs a command that asks for nothing and must succeed, with words.
func (c *shell) says(want string, args ...string) string {
	c.t.Helper()
	r := c.run(append(args, "--no-input")...)
	if out := r.Stdout + r.Stderr; r.Exit != 0 || !strings.Contains(out, want) {
		c.t.Fatalf("countersign %s: %d %s, which lacks %q", strings.Join(args, " "), r.Exit, out, want)
	}
	return r.Stdout
}

// climbs runs the command, which says what it needs and why, waits for the browser, and
// goes on; and, where nobody can be asked, tells the program that runs it.
func (c *shell) climbs(how, needs, rule string) {
	c.t.Helper()
	if r := c.run("person", "list", "--no-input"); r.Exit != 5 || !strings.Contains(r.Stderr, `"code":"step_up_needed"`) || !strings.Contains(r.Stderr, "countersign login --acr") {
		c.t.Errorf("%s, with nobody there: %+v", rule, r)
	}
	r := c.confirmed("person", "list")
	if r.Exit != 0 || !strings.Contains(r.Stdout, "dana") {
		c.t.Fatalf("%s: %+v", rule, r)
	}
	for _, x := range []string{"More proof is needed", "What  GET " + c.issuer + "/v1/people", "Why   ", how, "Where " + c.issuer + "/oauth/authorize"} {
		if !strings.Contains(r.Stderr, x) {
			c.t.Errorf("%s: the command does not say %q: %s", rule, x, r.Stderr)
		}
	}
	if got, by := c.asked(); got != needs || !strings.Contains(by, rule) {
		c.t.Errorf("it needs %q by %s, not %q by %s", got, by, needs, rule)
	}
	c.says("dana", "person", "list") // once is enough
}

// TestWalkAtTheCommandLine: one command as the risk of who runs it rises. Low: it
// answers and asks nothing. Medium, from another country: the API asks for a sign-in of now. High,
// when an EDR agent has a suspicion: already the renewal of the token asks for a passkey.
// Extreme: it is refused, with the review, in which another administrator says at their
// command line that it was them; then it works, with a passkey.
func TestWalkAtTheCommandLine(t *testing.T) {
	d := deploy(t, 0)
	d.client = program.BuildWith(t, "countersign", map[string]string{"clock.go": clockFile})
	dana := d.founder()
	sam := dana.invites("Sam")
	for _, name := range []string{"dana", "sam"} {
		d.accustomed(name)
	}
	hers, his := dana.signsIn(), sam.signsIn()
	const tooOld = 16 * time.Minute

	d.pass(tooOld)
	hers.says("dana", "person", "list")

	d.from.Store(abroad)
	hers.climbs("How   a sign-in of urn:countersign:acr:multi, not older than 15 minutes", "a two-factor sign-in from the last 15 minutes", "risk.medium")

	d.from.Store(further)
	d.reported("dana", "unusual_behaviour", 25)
	d.pass(tooOld)
	hers.climbs("How   a passkey or security key (phr), not older than 15 minutes", "a phishing-resistant sign-in from the last 15 minutes", "risk.high")

	d.from.Store(away)
	d.reported("dana", "account_compromised", 60)
	d.pass(tooOld)
	r := hers.run("person", "list")
	id := reviewID.FindString(r.Stderr)
	if r.Exit != 6 || r.Stdout != "" || id == "" || !strings.Contains(r.Stderr, "hint: ask an administrator to look at it: countersign review show "+id) {
		t.Fatalf("extreme: %+v", r)
	}
	ref := regexp.MustCompile(`reference ([0-9A-F]{6})`).FindStringSubmatch(r.Stderr)
	if len(ref) != 2 {
		t.Fatalf("extreme: %+v", r)
	}
	var said struct{ Code, Review string }
	if r = hers.run("person", "list", "--json"); r.Exit != 6 || json.Unmarshal([]byte(r.Stderr), &said) != nil || said.Code != "access_denied" || said.Review != id {
		t.Errorf("extreme, to a program: %+v", r)
	}

	d.from.Store(home)
	his.says(id, "review", "list")
	his.says("(new_country)", "review", "show", id)
	his.says("Policies: risk.extreme", "explain", ref[1])
	resolved := his.confirmed("review", "resolve", id, "--allow", "1h", "--reason", "called her, she is in Wellington")
	if resolved.Exit != 0 || !strings.Contains(resolved.Stderr, "a passkey is enough") {
		t.Fatalf("resolve: %+v", resolved)
	}

	d.from.Store(away)
	hers.climbs("How   a passkey or security key (phr), not older than 15 minutes", "a phishing-resistant sign-in from the last 15 minutes", "risk.high")
}
