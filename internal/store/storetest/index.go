package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/store"
)

// testServedBy: a client is led to the live resources that name it, whatever became of
// them since.
func testServedBy(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	serves := func(client string, want ...string) {
		t.Helper()
		var have []string
		for _, v := range must(r.s.ServedBy(r.ctx, client))(t) {
			have = append(have, v.ID)
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s serves %v, want %v", client, have, want)
		}
	}
	a, b := r.resource("https://a.example.com"), r.resource("https://b.example.com")
	serves("cli_x", a.ID, b.ID)
	serves("cli_y")
	same(t, must(r.s.ServedBy(r.ctx, "cli_x"))(t), []resource.Resource{a, b})
	a.Servers = []string{"cli_y", "cli_z"}
	r.do(resource.Update{Resource: a})
	serves("cli_x", b.ID)
	serves("cli_y", a.ID)
	r.do(lineage.Freeze{ID: b.ID, Why: "disabled"})
	serves("cli_x")
	r.do(lineage.Thaw{ID: b.ID})
	serves("cli_x", b.ID)
	r.do(lineage.End{ID: b.ID, Why: "ended"})
	serves("cli_x")
	r.ok(r.s.IndexServers(r.ctx)) // nothing is missing, and nothing comes back
	serves("cli_x")
	serves("cli_z", a.ID)
}

// testReferred: a reference leads to the records that name it, for whom they concern, as
// long as they are kept; and to none of whoever was erased.
func testReferred(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	found := func(ref, person string, want ...string) (since string) {
		t.Helper()
		var pseudonym []byte
		if person != "" {
			p, ok, err := r.s.PseudonymOf(r.ctx, person)
			if err != nil || !ok {
				t.Fatalf("%v %v", ok, err)
			}
			pseudonym = p
		}
		list, since, err := r.s.Referred(r.ctx, ref, pseudonym, 10)
		r.ok(err)
		var have []string
		for _, rec := range list {
			have = append(have, rec.ID)
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s of %q leads to %v, want %v", ref, person, have, want)
		}
		return since
	}
	if since := found("7F3A9C", ""); since != "" {
		t.Errorf("there are references since %q", since)
	}
	record := func(ref string, parts ...audit.Part) string {
		t.Helper()
		rec := audit.Record{ID: id.New(id.Record), Kind: audit.TokenRefused, At: time.Now().UTC().Truncate(time.Microsecond), Refused: true, Parts: parts}
		row := must(r.writer.Seal(r.ctx, rec, r.keys))(t)
		if row.Ref != ref {
			t.Errorf("the row names %q, want %q", row.Ref, ref)
		}
		w := r.write(audit.TokenRefused, "", nil)
		w.Record, w.Row = rec.ID, row
		r.ok(r.s.Commit(r.ctx, w))
		return rec.ID
	}
	of := func(person string, said map[string]any) audit.Part { return audit.Part{Person: person, Body: said} }
	record("", of("", nil))
	first := record("7F3A9C", of(dana.ID, map[string]any{"session": "x"}), of("", map[string]any{"ref": "7F3A9C"}))
	sealed := record("7F3A9C", of(sam.ID, map[string]any{"ref": "7F3A9C"}))
	other := record("7F3A9D", of(dana.ID, nil), of("", map[string]any{"ref": "7F3A9D"}))
	record("AAAAAA", of(dana.ID, map[string]any{"ref": "AAAAAA"}), of("", map[string]any{"ref": "BBBBBB"})) // as its line says
	if since := found("7F3A9C", "", sealed, first); since != first {
		t.Errorf("since %q, want %q", since, first)
	}
	found("7F3A9C", dana.ID, first)
	found("7F3A9C", sam.ID, sealed)
	found("7F3A9D", sam.ID)
	r.do(account.Erase{ID: sam.ID})
	found("7F3A9C", "", first)
	settle(t, r)
	rec := must(r.s.RecordByID(r.ctx, first))(t)
	r.do(store.Prune{Low: uint64(rec.Seq), High: uint64(rec.Seq) + 1, Numbers: []int64{rec.Seq}})
	if since := found("7F3A9C", ""); since != other {
		t.Errorf("since %q, want %q", since, other)
	}
	found("7F3A9D", dana.ID, other)
}
