package notice

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// opened is a part as audit.Open gives it.
func opened(person, json string) audit.OpenPart {
	p := audit.OpenPart{Person: person, JSON: []byte(json)}
	if person != "" {
		copy(p.Pseudonym[:], person)
	}
	return p
}

func event(k audit.Kind, facts string, parts ...audit.OpenPart) Event {
	row := audit.Row{ID: "rec_1", Kind: k, At: time.Now().UnixMicro(), Facts: []byte(facts)}
	return NewEvent(1, row, append([]audit.OpenPart{opened("", `{}`)}, parts...), nil)
}

const byDana, bySystem = `{"kind":"person"}`, `{"kind":"system"}`

// Who is told of what, and in which words.
func TestPersons(t *testing.T) {
	for name, c := range map[string]struct {
		e    Event
		want string // person: title | text
	}{
		"added a passkey":      {event(audit.FactorEnrolled, byDana, opened("usr_dana", `{"with":"passkey","name":"Laptop"}`)), "usr_dana: A way to sign in was added | Passkey, Laptop, was added to your account."},
		"removed by an admin":  {event(audit.FactorRemoved, byDana, opened("usr_boss", `{}`), opened("usr_dana", `{"with":"passkey"}`)), "usr_dana: A way to sign in was removed | Passkey was removed from your account by usr_boss."},
		"was refused":          {event(audit.FactorRemoved, byDana, opened("usr_dana", `{"r":true}`)), ""},
		"a known browser":      {event(audit.SessionOpened, byDana, opened("usr_dana", `{"new_device":false}`)), ""},
		"a new browser":        {event(audit.SessionOpened, byDana, opened("usr_dana", `{"new_device":true,"with":"passkey"}`)), "usr_dana: New sign-in to your account | Somebody signed in to your account with passkey, in a browser that was not used before."},
		"signed out herself":   {event(audit.SessionEnded, byDana, opened("usr_dana", `{}`)), ""},
		"signed out by us":     {event(audit.SessionEnded, bySystem, opened("usr_dana", `{}`)), "usr_dana: You were signed out | A session of yours was ended by the server."},
		"signed out by boss":   {event(audit.SessionEnded, byDana, opened("usr_boss", `{}`), opened("usr_dana", `{}`)), "usr_dana: You were signed out | A session of yours was ended by usr_boss."},
		"reuse":                {event(audit.RefreshReused, bySystem, opened("usr_dana", `{"client":"cli_1"}`)), "usr_dana: An app was signed out | An old token was used again by cli_1. It may have been copied, so everything that it belonged to was ended. Sign in to the app again if you use it."},
		"made administrator":   {event(audit.AdminGranted, byDana, opened("usr_boss", `{}`), opened("usr_dana", `{}`)), "usr_dana: You are an administrator now | Usr_boss made you an administrator."},
		"disabled":             {event(audit.PersonDisabled, byDana, opened("usr_boss", `{}`), opened("usr_dana", `{}`)), "usr_dana: Your account was disabled | Your account was disabled by usr_boss. You can't sign in until it is enabled again."},
		"routine":              {event(audit.TokenIssued, byDana, opened("usr_dana", `{}`)), ""},
		"of nobody":            {event(audit.FactorEnrolled, byDana), ""},
		"of somebody erased":   {event(audit.FactorEnrolled, byDana, audit.OpenPart{Pseudonym: [16]byte{1}, Erased: true}), ""},
		"an address to prove":  {event(audit.EmailAsked, byDana, opened("usr_dana", `{"address":"d@example.com"}`)), "usr_dana: Is this your e-mail address? | You asked to use this address for notices of your account. → d@example.com"},
		"the address that was": {event(audit.EmailChanged, byDana, opened("usr_dana", `{"before":"old@example.com"}`)), "usr_dana: Your e-mail address was changed | The e-mail address of your account was changed by usr_dana. Notices go to the new address once it is proved.\nusr_dana before: Your e-mail address was changed | The e-mail address of your account was changed by usr_dana. Notices go to the new address once it is proved. → old@example.com"},
	} {
		var got []string
		for _, told := range c.e.Persons() {
			line := told.Key() + ": " + told.Title + " | " + told.Text
			if told.Address != "" {
				line += " → " + told.Address
			}
			got = append(got, line)
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, text, c.want)
		}
	}
}

// notOfOne are kinds about factors that change none of a person.
var notOfOne = []audit.Kind{
	audit.FactorUsed, audit.FactorTried, audit.FactorMissed, audit.FactorLocked, audit.FactorRefreshed, audit.FactorAllowed, audit.FactorForbidden,
	audit.FactorImported, // with the account itself
}

// Every change of how somebody signs in, and of where notices go, is mailed, shown
// on the account page and told to webhooks that name no events.
func TestChangesOfFactorsAreToldEverywhere(t *testing.T) {
	n := 0
	for _, k := range audit.Kinds() {
		noun, _, _ := strings.Cut(k.Name(), ".")
		changes := noun == "factor" && !slices.Contains(notOfOne, k) || k == audit.EmailChanged || k == audit.AdminGranted || k == audit.AdminWithdrawn || k == audit.AdminRecovered
		if !changes {
			continue
		}
		n++
		if !Mailed(k) || !Shown(audit.Line{Kind: k}) || !(Webhook{}).Wants(k) || table[k].often {
			t.Errorf("%s is not told on every channel, or not always", k)
		}
	}
	if n < 7 {
		t.Errorf("only %d kinds were looked at", n)
	}
}

// The templates have no bracket that does not close, and say something.
func TestWords(t *testing.T) {
	for k, r := range table {
		for _, words := range []string{r.title, r.text} {
			if strings.Count(words, "[") != strings.Count(words, "]") || strings.Count(words, "<") != strings.Count(words, ">") {
				t.Errorf("%s: %q", k, words)
			}
			if strings.Contains(words, "http") {
				t.Errorf("%s: a notice leads nowhere: %q", k, words)
			}
		}
		if (r.title == "") != (r.text == "") || r.title != "" && r.to == nobody {
			t.Errorf("%s: %+v", k, r)
		}
		if strings.ContainsAny(r.title, "{[<") { // a subject holds nothing that somebody chose
			t.Errorf("%s: %q", k, r.title)
		}
	}
}

func TestAlertTable(t *testing.T) {
	names := map[string]bool{}
	for _, a := range AllAlerts() {
		if names[a.Name] || a.Title == "" || a.Next == "" || a.State && a.kind != 0 || a.State == (a.per != 0) {
			t.Errorf("%+v", a)
		}
		names[a.Name] = true
		if got, ok := AlertNamed(a.Name); !ok || got != a {
			t.Errorf("%s is not found", a.Name)
		}
		if got, ok := AlertOf(a.kind); a.kind != 0 && (!ok || got != a) {
			t.Errorf("%s: its kind raises %s", a.Name, got.Name)
		}
	}
	if _, ok := AlertOf(0); ok {
		t.Error("no kind raises an alert")
	}
	if _, ok := AlertNamed("no_such"); ok {
		t.Error("an alert that there is not")
	}
}

// The marks of one alert are the same within its time, for its subject, and others
// for anything else.
func TestMarks(t *testing.T) {
	a, _ := AlertNamed(BroadToken)
	b, _ := AlertNamed("refresh_reuse")
	now := time.Unix(1_790_000_000, 0)
	one, turns := a.Marks("cli_1", now)
	seen := map[once.Key]bool{one.Key: true}
	for _, s := range turns {
		seen[s.Key] = true
	}
	if len(turns) != perRule || len(seen) != perRule+1 || !one.Until.After(now) || one.Until.Sub(now) > a.per || !one.Mark {
		t.Errorf("%d turns, until %v", len(turns), one.Until)
	}
	if same, _ := a.Marks("cli_1", now.Add(time.Minute)); same.Key != one.Key {
		t.Error("raised again within its time")
	}
	for name, other := range map[string]func() (once.Spend, []once.Spend){
		"subject": func() (once.Spend, []once.Spend) { return a.Marks("cli_2", now) },
		"later":   func() (once.Spend, []once.Spend) { return a.Marks("cli_1", now.Add(a.per)) },
		"rule":    func() (once.Spend, []once.Spend) { return b.Marks("cli_1", now) },
	} {
		if own, _ := other(); own.Key == one.Key {
			t.Errorf("another %s has the same mark", name)
		}
	}
}

func TestWebhookCheck(t *testing.T) {
	good := Webhook{Name: "SIEM", URL: "https://siem.example.com/in?x=1", Events: []string{"factor.*", "alert.raised", "*"}}
	inside := func(host string) bool { return host == "siem.internal:8080" }
	if err := good.Check(inside); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*Webhook)
		code string
	}{
		"no name":       {func(w *Webhook) { w.Name = " " }, "name_invalid"},
		"no address":    {func(w *Webhook) { w.URL = "" }, "url_invalid"},
		"http":          {func(w *Webhook) { w.URL = "http://siem.example.com" }, "url_invalid"},
		"password":      {func(w *Webhook) { w.URL = "https://a:b@siem.example.com" }, "url_invalid"},
		"fragment":      {func(w *Webhook) { w.URL = "https://siem.example.com/#" }, "url_invalid"},
		"script":        {func(w *Webhook) { w.URL = "javascript:alert(1)" }, "url_invalid"},
		"file":          {func(w *Webhook) { w.URL = "file:///etc/passwd" }, "url_invalid"},
		"long":          {func(w *Webhook) { w.URL = "https://siem.example.com/" + strings.Repeat("a", 1024) }, "url_invalid"},
		"unknown event": {func(w *Webhook) { w.Events = []string{"factor.eaten"} }, "event_unknown"},
		"part of one":   {func(w *Webhook) { w.Events = []string{"fact*"} }, "event_unknown"},
		"noun alone":    {func(w *Webhook) { w.Events = []string{"factor"} }, "event_unknown"},
	} {
		w := good
		c.edit(&w)
		if err := w.Check(inside); problem.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.URL = "http://siem.internal:8080/in"
	if err := good.Check(inside); err != nil {
		t.Errorf("a host that the operator allows: %v", err)
	}
	if w := (Webhook{Events: []string{"factor.*"}}); !w.Wants(audit.FactorUsed) || w.Wants(audit.AlertRaised) || len(w.Kinds()) < 4 {
		t.Error("patterns")
	}
	if w := (Webhook{}); w.Wants(audit.TokenIssued) || !w.Wants(audit.AlertRaised) || !w.Wants(audit.SigninRefused) {
		t.Error("the default events")
	}
}
