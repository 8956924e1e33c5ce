package recovery

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

var t0 = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

// TestRecoveringIsNeverEasier goes over the table that the surfaces act by, at
// both ends of what can be configured.
func TestRecoveringIsNeverEasier(t *testing.T) {
	for _, s := range []Settings{{}, {Wait: MinWait, Probation: MinProbation}, {Wait: MaxWait, Probation: MaxProbation}} {
		if key, fault := s.Check(); key != "" {
			t.Fatalf("%+v: %s %s", s, key, fault)
		}
		for _, p := range s.Paths() {
			for _, w := range SignIns() {
				if why := p.Easier(w); why != "" {
					t.Errorf("%s (%s) is easier than %s: %s", p.Name, p.Who, w.Name, why)
				}
			}
			if p.Administrator && p.Method != ByHost && p.Wait < AdminWait {
				t.Errorf("%s gives an administrator's account back after %s", p.Name, p.Wait)
			}
			if p.Confirmations != count(p.Needs, OtherPasskey) && p.Method == ByPeople {
				t.Errorf("%s: %d confirmations, %d passkeys of others", p.Name, p.Confirmations, count(p.Needs, OtherPasskey))
			}
		}
	}
	// The check can fail: take away what a path demands, and it is easier.
	code, _ := Settings{}.Path(ByCode, false)
	people, _ := Settings{}.Path(ByPeople, false)
	pass, _ := Settings{}.Path(ByPass, false)
	for name, easy := range map[string]Path{
		"no code":        without(code, Code),
		"no time":        func() Path { p := code; p.Wait = 0; return p }(),
		"no silence":     without(code, Silence),
		"nobody told":    func() Path { p := code; p.Told = ""; return p }(),
		"one helper":     without(without(people, OtherPasskey), OtherPasskey),
		"no probation":   func() Path { p := people; p.Cap = assurance.Phishing; return p }(),
		"a pass alone":   without(pass, OtherPasskey),
		"a link alone":   {Needs: []Need{Link}, Wait: MaxWait, Told: "everybody", Cap: assurance.Multi},
		"a browser only": {Needs: []Need{Browser, Silence}, Wait: MaxWait, Told: "everybody", Cap: assurance.Multi},
	} {
		if easy.Easier(SignIns()[0]) == "" {
			t.Errorf("%s is not easier than signing in", name)
		}
	}
}

func without(p Path, n Need) Path {
	p.Needs = slices.Clone(p.Needs)
	if i := slices.Index(p.Needs, n); i >= 0 {
		p.Needs = slices.Delete(p.Needs, i, i+1)
	}
	return p
}

func TestSettings(t *testing.T) {
	for want, s := range map[string]Settings{
		"wait": {Wait: MinWait - time.Second}, "wait ": {Wait: MaxWait + time.Second},
		"probation": {Probation: MinProbation - 1}, "probation ": {Probation: MaxProbation + 1}, "wait  ": {Wait: -time.Hour},
	} {
		if key, fault := s.Check(); key != strings.TrimSpace(want) || fault == "" {
			t.Errorf("%+v: %q %q", s, key, fault)
		}
	}
	p, ok := Settings{Wait: 2 * time.Hour}.Path(ByCode, false)
	if ready, expires := p.Times(t0); !ok || ready != t0.Add(2*time.Hour) || expires != ready.Add(Window) {
		t.Errorf("a recovery by code: from %s to %s", ready, expires)
	}
	if p, _ := (Settings{Wait: 2 * time.Hour}).Path(ByPeople, true); p.Wait != AdminWait {
		t.Errorf("an administrator waits %s", p.Wait)
	}
	if p, _ := (Settings{}).Path(ByPeople, false); p.Wait != 0 {
		t.Errorf("with two administrators it waits %s", p.Wait)
	}
	if _, ok := (Settings{}).Path("mail", false); ok {
		t.Error("there is a path by mail")
	}
}

func TestTable(t *testing.T) {
	table := Settings{}.Table()
	for _, want := range []string{"2 × another person's passkey, used in the last 5 minutes", "| 24 hours |", "to compare", "an unused recovery code; the browser that began it; nobody who was told cancels it"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if strings.Count(line, "|") != 8 {
			t.Errorf("a line is broken: %s", line)
		}
	}
}

func TestCodes(t *testing.T) {
	person := id.New(id.Person)
	codes, changes := NewCodes(person, t0)
	if len(codes) != Codes || len(changes) != Codes {
		t.Fatalf("%d codes, %d changes", len(codes), len(changes))
	}
	seen := map[once.Key]bool{}
	for i, c := range changes {
		var v once.Value
		switch c := c.(type) {
		case once.Replace:
			v = c.Value
			if i != 0 {
				t.Error("a code takes the others of its set away")
			}
		case once.Put:
			v = c.Value
		}
		read, err := secret.ReadTyped(codes[i].Grouped(), secret.TypedLen)
		if err != nil || CodeKey(read) != v.Key || v.Bound != person || v.Purpose != once.RecoveryCode || seen[v.Key] || strings.Contains(string(v.Data), codes[i].Reveal()) {
			t.Errorf("code %d: %+v", i, v)
		}
		seen[v.Key] = true
	}
}

func TestPass(t *testing.T) {
	r := New(ByPass, id.New(id.Person), t0)
	r.ExpiresAt = t0.Add(PassLifetime)
	code, put := NewPass(r, t0)
	if got, err := ReadPass(put.Value); err != nil || got != r.ID || put.Key != PassKey(code) || put.Bound != r.Person || put.ExpiresAt != r.ExpiresAt {
		t.Errorf("%+v: %s, %v", put, got, err)
	}
	if CodeKey(code) == PassKey(code) {
		t.Error("a pass is a recovery code")
	}
	put.Purpose = once.Invite
	if got, err := ReadPass(put.Value); err == nil || got != "" {
		t.Errorf("an invitation is read as a pass: %s", got)
	}
	put.Purpose, put.Data = once.TemporaryPass, []byte("x")
	if got, err := ReadPass(put.Value); err == nil || got != "" {
		t.Errorf("a broken pass is read: %s", got)
	}
}

func TestClaim(t *testing.T) {
	a, b := secret.New(secret.Recover), secret.New(secret.Recover)
	claim := ClaimOf(a)
	if got, err := ReadClaim(strings.ToLower(claim.Grouped())); err != nil || got != claim.Reveal() || claim != ClaimOf(a) || claim == ClaimOf(b) || len(got) != ClaimLen {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := ReadClaim(claim.Reveal() + "0"); err == nil || got != "" {
		t.Errorf("a longer code is taken: %q", got)
	}
}

func TestCancelLink(t *testing.T) {
	key, other := make([]byte, 32), []byte(strings.Repeat("k", 32))
	r := id.New(id.Recovery)
	link, err := CancelLink("https://id.example.com", key, r)
	text, ok := strings.CutPrefix(link, "https://id.example.com/recover/cancel#")
	if err != nil || !ok {
		t.Fatalf("%s, %v", link, err)
	}
	for _, keys := range [][][]byte{{key}, {other, key}} {
		if got, err := ReadCancel(keys, text); err != nil || got != r {
			t.Errorf("%s, %v", got, err)
		}
	}
	forged, _ := CancelLink("https://id.example.com", other, r)
	_, forgedText, _ := strings.Cut(forged, "#")
	another, _ := CancelLink("https://id.example.com", key, id.New(id.Recovery))
	_, anotherText, _ := strings.Cut(another, "#")
	_, a, _ := secret.Parse(secret.Cancel, 32, text)
	_, b, _ := secret.Parse(secret.Cancel, 32, anotherText)
	for name, bad := range map[string]string{
		"nothing": "", "another key's": forgedText, "cut short": text[:len(text)-1], "an id": r,
		"the MAC of another": secret.Encode(secret.Cancel, append(slices.Clone(a[:16]), b[16:]...)).Reveal(),
		"another kind":       secret.Encode(secret.Invite, a).Reveal(),
	} {
		if got, err := ReadCancel([][]byte{key}, bad); problem.CodeOf(err) != "cancel_link_invalid" || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := ReadCancel(nil, text); err == nil || got != "" {
		t.Errorf("without a key: %q", got)
	}
	if link, err := CancelLink("https://id.example.com", key, "usr_x"); err == nil || link != "" {
		t.Errorf("for something else: %q", link)
	}
}

func FuzzReadCancel(f *testing.F) {
	key := make([]byte, 32)
	link, _ := CancelLink("", key, id.Encode(id.Recovery, [16]byte{1}))
	f.Add(link[len(CancelPath)+1:])
	f.Add("cs_cancel_")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ReadCancel([][]byte{key}, text)
		if err != nil {
			if got != "" {
				t.Fatal("an error comes with a value")
			}
			return
		}
		again, err := CancelLink("", key, got)
		if err != nil || again != CancelPath+"#"+text {
			t.Fatalf("%q cancels %s, whose link is %q (%v)", text, got, again, err)
		}
	})
}

func TestNoticeLink(t *testing.T) {
	key, r := make([]byte, 32), id.New(id.Recovery)
	body := map[string]any{"recovery": r}
	want, _ := CancelLink("https://id.example.com", key, r)
	for _, k := range audit.Kinds() {
		n, ok, err := NoticeLink("https://id.example.com", key, k, body)
		with := slices.Contains([]audit.Kind{audit.RecoveryStarted, audit.RecoveryOpened, audit.RecoveryConfirmed, audit.PassIssued}, k)
		if err != nil || ok != with || with && (n.Link != want || n.Text == "") || !with && n != (Notice{}) {
			t.Errorf("%s: %+v, %v, %v", k, n, ok, err)
		}
	}
	if n, ok, err := NoticeLink("", key, audit.RecoveryStarted, nil); ok || err != nil {
		t.Errorf("without a recovery: %+v, %v", n, err)
	}
	if n, ok, err := NoticeLink("", key, audit.RecoveryStarted, map[string]any{"recovery": "x"}); ok || err == nil {
		t.Errorf("with another id: %+v", n)
	}
}

func TestStates(t *testing.T) {
	r := Recovery{State: Open, ReadyAt: t0, ExpiresAt: t0.Add(time.Hour)}
	for at, want := range map[time.Duration][2]bool{
		-time.Microsecond: {true, false}, 0: {true, true}, time.Hour - time.Microsecond: {true, true}, time.Hour: {false, false},
	} {
		if r.Live(t0.Add(at)) != want[0] || r.Ready(t0.Add(at)) != want[1] {
			t.Errorf("at %s: %v %v", at, r.Live(t0.Add(at)), r.Ready(t0.Add(at)))
		}
	}
	r.ReadyAt = time.Time{}
	if r.Ready(t0) {
		t.Error("without confirmations it is ready")
	}
	for _, s := range []State{Completed, Cancelled, Expired, ""} {
		if r := (Recovery{State: s, ReadyAt: t0, ExpiresAt: t0.Add(time.Hour)}); r.Live(t0) || r.Ready(t0) {
			t.Errorf("%q is live", s)
		}
	}
}

func TestWhoMay(t *testing.T) {
	for _, c := range []struct {
		c    Confirmer
		code string
	}{
		{Confirmer{ID: "a"}, ""},
		{Confirmer{ID: "p"}, "recovery_own"},
		{Confirmer{ID: "a", AdminSince: t0.Add(-Standing)}, ""},
		{Confirmer{ID: "a", AdminSince: t0.Add(-Standing + 1)}, "confirmer_new"},
		{Confirmer{ID: "a", RecoveredAt: t0.Add(-Standing)}, ""},
		{Confirmer{ID: "a", RecoveredAt: t0.Add(-Standing + 1)}, "confirmer_recovered"},
	} {
		if err := c.c.Eligible("p", t0); problem.CodeOf(err) != c.code {
			t.Errorf("%+v: %v", c.c, err)
		}
	}
	for bits := range 8 {
		by, admin, helper := bits&1 != 0, bits&2 != 0, bits&4 != 0
		err := MayHelp("h", "p", by, admin, helper)
		if allowed := !admin && (!helper || by); (err == nil) != allowed {
			t.Errorf("administrator %v for administrator %v, helper %v: %v", by, admin, helper, err)
		}
	}
	if err := MayHelp("h", "h", true, false, false); problem.CodeOf(err) != "pass_own" {
		t.Error("somebody gives themselves a pass")
	}
}
