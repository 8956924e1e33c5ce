package storetest

import (
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// testProfiles: what an actor usually does is kept, replaced, seen by another
// process, and goes with the person or when nothing happens for long.
func testProfiles(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	read := func(actor string) string { t.Helper(); return string(must(r.s.Profile(r.ctx, actor))(t)) }
	if got := read(dana.ID); got != "" {
		t.Errorf("%q of somebody who did nothing", got)
	}
	r.do(profile.Keep{Actor: dana.ID, State: []byte("a\x00b")}, profile.Keep{Actor: sam.ID, State: []byte("s")})
	r.do(profile.Keep{Actor: dana.ID, State: []byte("c")})
	if read(dana.ID) != "c" || read(sam.ID) != "s" {
		t.Errorf("%q %q", read(dana.ID), read(sam.ID))
	}
	r.do(account.Erase{ID: sam.ID})
	if got := read(sam.ID); got != "" {
		t.Errorf("%q of somebody who was erased", got)
	}
	kit := r.person("kit")
	one, two := &profile.Profiles{Store: r.s, Settings: risk.Default()}, &profile.Profiles{Store: r.s, Settings: risk.Default()}
	at := start
	o := act.Origin{Asked: true, Shown: true, Device: "laptop", Network: "198.51.100.0/24", Things: []string{"notes:read"}}
	kept := 0
	for range 80 { // ten days
		at = at.Add(3 * time.Hour)
		must(one.Score(r.ctx, kit.ID, o, at))(t)
		if c := one.Keep(kit.ID, at); c != nil {
			kept++
			r.do(c)
		}
		one.Learn(kit.ID, o, at, true)
	}
	if kept != 79 { // all but the first: nothing was learned before it
		t.Errorf("kept %d times", kept)
	}
	if c := one.Keep(kit.ID, at.Add(time.Minute)); c != nil {
		t.Error("kept again before anything is notable")
	}
	// A process that has not read the history, or has forgotten it, does not replace it by what
	// strangers do in its name.
	fresh := &profile.Profiles{Store: r.s, Settings: risk.Default()}
	fresh.Miss(kit.ID, o.Network, at)
	if c := fresh.Keep(kit.ID, at); c != nil {
		t.Error("a failure replaces a history that was not read")
	}
	must(fresh.Score(r.ctx, kit.ID, o, at))(t)
	if c := fresh.Keep(kit.ID, at); c == nil {
		t.Error("a failure is not kept once the history is read")
	}
	at = at.Add(15 * time.Minute)
	there := o
	there.Device, there.Network = "", "203.0.113.0/24"
	for _, p := range []*profile.Profiles{one, two} {
		if a := must(p.Score(r.ctx, kit.ID, o, at))(t); a.Band != risk.Low {
			t.Errorf("as always: %+v", a)
		}
		if a := must(p.Score(r.ctx, kit.ID, there, at))(t); a.Score != 60 || a.Band != risk.High {
			t.Errorf("elsewhere: %+v", a)
		}
	}
	// One learns something new: it is kept with the next act, and soon seen by the other.
	one.Learn(kit.ID, there, at, true)
	c := one.Keep(kit.ID, at)
	if c == nil {
		t.Fatal("a new network is no news")
	}
	r.do(c)
	if a := must(two.Score(r.ctx, kit.ID, there, at.Add(time.Second)))(t); a.Score != 60 {
		t.Errorf("read again at once: %+v", a)
	}
	if a := must(two.Score(r.ctx, kit.ID, there, at.Add(31*time.Second)))(t); a.Score != 45 {
		t.Errorf("not seen by the other process: %+v", a)
	}
	o.Network = "127.0.0.0/8" // this machine, or a proxy that does not say who asks
	for i := range 12 {
		one.Miss("p"+string(rune('a'+i)), "127.0.0.0/8", at)
	}
	if a := must(one.Score(r.ctx, kit.ID, o, at))(t); a.Score != 0 {
		t.Errorf("loopback: %+v", a)
	}
	if err := r.s.DeleteExpired(r.ctx, start.Add(399*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if read(kit.ID) == "" {
		t.Error("forgotten too early")
	}
	if err := r.s.DeleteExpired(r.ctx, start.Add(500*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if read(kit.ID) != "" {
		t.Error("never forgotten")
	}
}

// testReports: a report is kept once of a source, kind and thing, counted, listed,
// gone when it is over, withdrawn, or when its person is erased.
func testReports(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	sam := r.person("sam")
	one := profile.Report{ID: "sgl_1", Kind: "phishing", About: "person", Thing: sam.ID, Person: sam.ID, Points: 35, Source: "svc_a", Name: "A", At: start, Until: start.Add(time.Hour)}
	two := one
	two.ID, two.Source, two.Person, two.Until = "sgl_2", "svc_b", "", start.Add(2*time.Hour)
	r.do(profile.Told{Report: one}, profile.Told{Report: two})
	if got := must(r.s.SameReport(r.ctx, "svc_a", "phishing", sam.ID, start))(t); got != one {
		t.Errorf("%+v, want %+v", got, one)
	}
	one.Points, one.Until, one.At = 10, start.Add(90*time.Minute), start.Add(time.Minute)
	r.do(profile.Told{Report: one})
	if got := must(r.s.Report(r.ctx, "sgl_1", start))(t); got != one {
		t.Errorf("said again: %+v, want %+v", got, one)
	}
	other := one
	other.ID = "sgl_3"
	refused(t, r.try(profile.Told{Report: other}), problem.Conflict, "signal_raced")
	ids := func(source string) (out string) {
		t.Helper()
		for _, x := range must(r.s.Reports(r.ctx, source, "", 10, start))(t) {
			out += x.ID + " "
		}
		return out
	}
	if theirs, all, err := r.s.CountReports(r.ctx, "svc_a", start); err != nil || theirs != 1 || all != 2 || ids("") != "sgl_1 sgl_2 " || ids("svc_b") != "sgl_2 " {
		t.Errorf("%d of %d, %q %q, %v", theirs, all, ids(""), ids("svc_b"), err)
	}
	if err := r.s.DeleteExpired(r.ctx, start.Add(90*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if ids("") != "sgl_2 " {
		t.Errorf("%q are left when one is over", ids(""))
	}
	r.do(profile.Told{Report: one})
	r.do(account.Erase{ID: sam.ID})
	if ids("") != "sgl_2 " {
		t.Errorf("%q are left when a person was erased", ids(""))
	}
	r.do(profile.Withdrawn{ID: "sgl_2"})
	refused(t, r.try(profile.Withdrawn{ID: "sgl_2"}), problem.NotFound, "signal_not_found")
}
