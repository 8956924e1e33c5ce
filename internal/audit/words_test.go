package audit

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/id"
)

func TestKinds(t *testing.T) {
	names := map[string]bool{}
	for _, k := range Kinds() {
		if !regexp.MustCompile(`^[a-z]+(\.[a-z]+(_[a-z]+)?)?$`).MatchString(k.Name()) || names[k.Name()] {
			t.Errorf("%#04x: name %q", uint16(k), k.Name())
		}
		names[k.Name()] = true
		if back, ok := KindOf(k.Name()); back != k || !ok || !k.Known() || k.String() != k.Name() {
			t.Errorf("KindOf(%s) = %#04x", k, uint16(back))
		}
		switch k.Class() {
		case Routine, Access, Identity, Authority, Log:
		default:
			t.Errorf("%s: class %q", k, k.Class())
		}
	}
	if _, ok := KindOf("token.made"); ok || Kind(0).Known() {
		t.Error("found a kind that there is not")
	}
	// Numbers are stored for good: this list only grows.
	for name, n := range map[string]Kind{
		"token.issued": 0x0101, "token.refreshed": 0x0102, "refresh.replayed": 0x0103, "refresh.reused": 0x0104, "code.issued": 0x0105,
		"code.reused": 0x0106, "token.revoked": 0x0107, "token.refused": 0x0108, "grant.opened": 0x0109, "session.opened": 0x0201,
		"session.ended": 0x0202, "signin.refused": 0x0203, "stepup.done": 0x0204, "factor.enrolled": 0x0301, "factor.removed": 0x0302,
		"factor.renamed": 0x0303, "factor.used": 0x0304, "recovery.codes_made": 0x0320, "recovery.started": 0x0321, "recovery.opened": 0x0322,
		"recovery.confirmed": 0x0323, "recovery.cancelled": 0x0324, "recovery.completed": 0x0325, "pass.issued": 0x0326, "pass.used": 0x0327, "person.created": 0x0401, "person.invited": 0x0402, "invitation.accepted": 0x0403,
		"person.disabled": 0x0404, "person.enabled": 0x0405, "person.erased": 0x0406, "group.created": 0x0411, "approval.decided": 0x0502,
		"client.created": 0x0601, "client.updated": 0x0602, "client.ended": 0x0603, "client.secret_rotated": 0x0604, "key.published": 0x0701,
		"key.activated": 0x0702, "key.retired": 0x0703, "log.opened": 0x0801, "writer.started": 0x0802, "writer.beat": 0x0803,
		"refusals.counted": 0x0804, "setup.completed": 0x0805, "admin.recovered": 0x0806, "policy.published": 0x0807, "migrated": 0x0808,
		"alert.raised": 0x0820, "alert.cleared": 0x0821, "webhook.created": 0x0822, "webhook.updated": 0x0823, "webhook.ended": 0x0824,
		"webhook.secret_rotated": 0x0825, "delivery.resent": 0x0826, "delivery.discarded": 0x0827, "secret.leaked": 0x0828,
		"email.changed": 0x0829, "email.asked": 0x082a, "email.linked": 0x082b, "email.verified": 0x082c,
		"writer.lost": 0x080a, "audit.lost": 0x0840, "log.pruned": 0x0841, "hold.placed": 0x0842, "hold.released": 0x0843, "retention.set": 0x0844,
		"policy.recovered": 0x0850, "policy.replayed": 0x0858, "access.decided": 0x0890,
		"policy.submitted": 0x0898, "policy.signed": 0x0899, "policy.withdrawn": 0x089a,
	} {
		if k, _ := KindOf(name); k != n {
			t.Errorf("%s is %#04x, was %#04x", name, uint16(k), uint16(n))
		}
	}
	// Mechanisms E9, in full.
	for _, k := range []Kind{
		ApprovalDecided, FactorEnrolled, FactorRemoved, InvitationAccepted, PolicyPublished, KeyPublished, KeyActivated, KeyRetired,
		AdminGranted, AdminWithdrawn, AdminRecovered, SetupCompleted, PersonErased, Restored, LogOpened,
	} {
		if !k.Critical() {
			t.Errorf("%s is answered before it is in a checkpoint", k)
		}
	}
	if TokenIssued.Critical() || SessionOpened.Critical() || TokenRefreshed.Critical() {
		t.Error("a routine act waits for a checkpoint")
	}
}

func TestSentence(t *testing.T) {
	dana, sam, cli := id.New(id.Person), id.New(id.Person), id.New(id.Client)
	names := func(s string) string { return map[string]string{dana: "Dana", sam: "Sam", cli: "notes-cli"}[s] }
	for _, c := range []struct {
		rec  Record
		want string
	}{
		{
			Record{Kind: SessionOpened, Parts: []Part{{Body: map[string]any{"acr": "phr"}}, {Person: dana, Body: map[string]any{"with": "a passkey"}}}},
			"Dana signed in with a passkey (phr)",
		},
		{Record{Kind: SessionOpened, Parts: []Part{{Person: dana}}, Facts: map[string]any{"acr": "phr"}}, "Dana signed in (phr)"},
		{
			Record{Kind: SessionOpened, Refused: true, Parts: []Part{{Person: dana, Body: map[string]any{"with": "a passkey", "reason": "the account is disabled"}}}},
			"Dana was not allowed to sign in with a passkey: the account is disabled",
		},
		{
			Record{Kind: TokenIssued, Parts: []Part{{Body: map[string]any{"client": cli, "resource": "https://api.example.com", "scope": []string{"a", "b"}}}}},
			"A token was issued to notes-cli for https://api.example.com with a, b",
		},
		{
			Record{Kind: TokenRefused, Parts: []Part{{Body: map[string]any{"client": cli, "reason": "the assertion is too old"}}}},
			"A token was refused to notes-cli: the assertion is too old",
		},
		{Record{Kind: CodeIssued, Parts: []Part{{Person: dana}}}, "Dana let an application act for them"},
		{Record{Kind: PersonInvited, Parts: []Part{{Person: dana}, {Person: sam}}}, "Dana invited Sam"},
		{
			Record{Kind: GroupJoined, Parts: []Part{{Body: map[string]any{"by": "the operator", "whom": sam, "group": "release"}}}},
			"The operator added Sam to group release",
		},
		{Record{Kind: ClientCreated, Parts: []Part{{Person: dana}}, Refused: true}, "Dana was not allowed to register an application"},
		{Record{Kind: RefusalsCounted, Parts: []Part{{Body: map[string]any{"total": 12}}}}, "Requests of unknown callers were refused: 12"},
		{Record{Kind: SetupCompleted, Parts: []Part{{Person: dana}}}, "Dana completed the setup and became the first administrator"},
		{Record{Kind: PersonErased}, "Someone erased a person"},
	} {
		c.rec.ID, c.rec.At = id.New(id.Record), at
		keys := newPeople()
		row, err := NewWriter().Seal(t.Context(), c.rec, keys)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := Open(t.Context(), row, keys)
		if err != nil {
			t.Fatal(err)
		}
		if got := Sentence(row, parts, names); got != c.want {
			t.Errorf("%s: %q, want %q", c.rec.Kind, got, c.want)
		}
	}
	erased := []OpenPart{{JSON: []byte(`{}`)}, {Pseudonym: [16]byte{1}, Erased: true}}
	if got := Sentence(Row{Kind: SessionOpened}, erased, nil); got != "An erased person signed in" {
		t.Errorf("%q", got)
	}
	if got := Sentence(Row{Kind: 0x9901}, nil, nil); got == "" {
		t.Error("no words for a later release's record")
	}
}

// TestTemplates: every template renders with nothing known, and only {who} and
// {whom} stand outside brackets.
func TestTemplates(t *testing.T) {
	for _, k := range Kinds() {
		for _, refused := range []string{`{}`, `{"r":true}`} {
			got := Sentence(Row{Kind: k}, []OpenPart{{JSON: []byte(refused)}}, nil)
			if strings.ContainsAny(got, "{}[]<>|") || strings.Contains(got, "  ") || strings.TrimSpace(got) != got || got == "" {
				t.Errorf("%s: %q", k, got)
			}
		}
		outside := regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(kinds[k].words, "")
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(outside, -1) {
			if m[1] != "who" && m[1] != "whom" {
				t.Errorf("%s: {%s} outside brackets would become \"someone\"", k, m[1])
			}
		}
	}
}

func TestCounters(t *testing.T) {
	c := NewCounters(3)
	t0 := time.Date(2026, 11, 23, 8, 0, 30, 0, time.UTC)
	c.Count(t0, "client_unknown", "net-a")
	c.Count(t0, "client_unknown", "net-a")
	c.Count(t0, "client_unknown", "net-b")
	c.Count(t0, "code_unknown", "net-c") // no more room to tell apart
	c.Count(t0, "a\nb", strings.Repeat("x", 100))
	if got := c.Flush(t0); got != nil {
		t.Errorf("flushed the running minute: %v", got)
	}
	c.Count(t0.Add(time.Minute), "client_unknown", "net-a")
	got := c.Flush(t0.Add(time.Minute))
	if len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
	want := map[string]any{
		"from": "2026-11-23T08:00:00Z", "to": "2026-11-23T08:01:00Z", "total": int64(5),
		"by": map[string]map[string]int64{"client_unknown": {"net-a": 2, "net-b": 1}, other: {other: 2}},
	}
	if diff := cmp.Diff(want, got[0].Parts[0].Body); diff != "" {
		t.Error(diff)
	}
	if _, err := NewWriter().Seal(t.Context(), got[0], nil); err != nil {
		t.Errorf("the record does not seal: %v", err)
	}
	if got = c.Flush(t0.Add(2 * time.Minute)); len(got) != 1 || got[0].Parts[0].Body.(map[string]any)["total"] != int64(1) {
		t.Errorf("the next minute: %v", got)
	}
	if got = c.Flush(t0.Add(time.Hour)); got != nil {
		t.Errorf("counted twice: %v", got)
	}
}

// TestCountersBounded: a flood over hours without a flush keeps few minutes and
// few names, and loses no count; the clock may step back.
func TestCountersBounded(t *testing.T) {
	c := NewCounters(0)
	t0 := time.Unix(1_790_000_000, 0)
	var wg sync.WaitGroup
	const each = 20_000
	for g := range 4 {
		wg.Go(func() {
			for i := range each {
				c.Count(t0.Add(time.Duration(i)*time.Second), "r"+strings.Repeat("x", i%40), strings.Repeat("s", (i+g)%45))
			}
		})
	}
	wg.Wait()
	records := c.Flush(t0.Add(24 * time.Hour))
	if len(records) > keptMinutes+1 {
		t.Errorf("%d records", len(records))
	}
	var total int64
	for _, r := range records {
		body := r.Parts[0].Body.(map[string]any)
		total += body["total"].(int64)
		n, sum := 0, int64(0)
		for _, by := range body["by"].(map[string]map[string]int64) {
			n += len(by)
			for _, v := range by {
				sum += v
			}
		}
		if n > 64 || sum != body["total"] {
			t.Errorf("%d pairs that add up to %d of %v", n, sum, body["total"])
		}
	}
	if total != 4*each {
		t.Errorf("%d counted of %d", total, 4*each)
	}
}
