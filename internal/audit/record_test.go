package audit

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/id"
)

// people are record keys in memory.
type people struct {
	byPerson map[string]*recordKey
	byNym    map[[16]byte]*recordKey
}

type recordKey struct {
	person string
	nym    [16]byte
	aead   cipher.AEAD
}

func newPeople() *people {
	return &people{map[string]*recordKey{}, map[[16]byte]*recordKey{}}
}

func (p *people) Pseudonym(_ context.Context, person string) ([16]byte, cipher.AEAD, error) {
	k := p.byPerson[person]
	if k == nil {
		k = &recordKey{person: person}
		var key [32]byte
		rand.Read(key[:])
		rand.Read(k.nym[:])
		block, _ := aes.NewCipher(key[:])
		k.aead, _ = cipher.NewGCM(block)
		p.byPerson[person], p.byNym[k.nym] = k, k
	}
	return k.nym, k.aead, nil
}

func (p *people) Unseal(_ context.Context, nym [16]byte) (string, cipher.AEAD, error) {
	if k := p.byNym[nym]; k != nil {
		return k.person, k.aead, nil
	}
	return "", nil, ErrErased
}

func (p *people) erase(person string) {
	delete(p.byNym, p.byPerson[person].nym)
	delete(p.byPerson, person)
}

var at = time.Date(2026, 11, 23, 8, 30, 0, 123456789, time.UTC)

func machineToken() Record {
	return Record{
		ID: id.New(id.Record), Kind: TokenIssued, At: at, Leaf: id.New(id.Grant),
		Parts: []Part{{Body: map[string]any{"client": id.New(id.Client), "resource": "https://api.example.com", "scope": "notes.read"}}},
		Facts: map[string]any{"acr": "m2", "allow": true, "policy": "built-in"},
	}
}

func signIn() Record {
	return Record{
		ID: id.New(id.Record), Kind: SessionOpened, At: at, Leaf: id.New(id.Session),
		Parts: []Part{
			{Person: "usr_dana", Body: struct {
				With string `json:"with"`
				IP   string `json:"ip"`
			}{"a passkey", "192.0.2.7"}},
			{Body: map[string]any{"acr": "phr"}},
			{Person: "usr_sam"},
		},
	}
}

func TestSealOpen(t *testing.T) {
	ctx, keys, w := t.Context(), newPeople(), NewWriter()
	rec := signIn()
	rec.Refused = true
	rec.Facts = map[string]any{"rung": 3}
	row, err := w.Seal(ctx, rec, keys)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(row.Body, []byte("192.0.2.7")) || bytes.Contains(row.Body, []byte("passkey")) {
		t.Error("a person's part is in the clear")
	}
	e, err := ParseEntry(row.Entry)
	if err != nil || e.Kind != SessionOpened || e.At != at.UnixMicro() || e.Writer != w.ID() || e.WSeq != 1 {
		t.Errorf("entry = %+v, %v", e, err)
	}
	if e.Pseudonyms[0] != keys.byPerson["usr_dana"].nym || e.Pseudonyms[1] != keys.byPerson["usr_sam"].nym {
		t.Error("pseudonyms are not in the order of the persons")
	}
	parts, err := Open(ctx, row, keys)
	if err != nil {
		t.Fatal(err)
	}
	general := parts[0].Fields()
	for name, want := range map[string]any{"acr": "phr", "id": rec.ID, "l": rec.Leaf, "r": true, "k": "session.opened", "v": 1.0} {
		if general[name] != want {
			t.Errorf("general part: %s = %v, want %v", name, general[name], want)
		}
	}
	if general["f"] == nil || general["s"] == nil {
		t.Errorf("the general part does not cover facts and sealed parts: %s", parts[0].JSON)
	}
	if got := string(parts[1].JSON); parts[1].Person != "usr_dana" || got != `{"ip":"192.0.2.7","k":"session.opened","v":1,"with":"a passkey"}` {
		t.Errorf("part 1 = %q %s", parts[1].Person, got)
	}
	if got := string(parts[2].JSON); parts[2].Person != "usr_sam" || got != `{"k":"session.opened","v":1}` {
		t.Errorf("part 2 = %q %s", parts[2].Person, got)
	}

	keys.erase("usr_dana")
	if parts, err = Open(ctx, row, keys); err != nil || !parts[1].Erased || parts[1].JSON != nil || parts[2].Erased {
		t.Errorf("after erasure: %+v, %v", parts, err)
	}
	if parts, err = Open(ctx, row, nil); err != nil || parts[1].Erased || parts[1].JSON != nil || parts[0].JSON == nil {
		t.Errorf("without keys: %+v, %v", parts, err)
	}
}

func TestSealRefuses(t *testing.T) {
	who := Part{Person: "usr_1"}
	for name, change := range map[string]func(*Record){
		"unknown kind":           func(r *Record) { r.Kind = 0x0199 },
		"no id":                  func(r *Record) { r.ID = "" },
		"id with a quote":        func(r *Record) { r.ID = `rec_"` },
		"leaf with a backslash":  func(r *Record) { r.Leaf = `ses_\` },
		"before 1970":            func(r *Record) { r.At = time.Unix(-1, 0) },
		"zero time":              func(r *Record) { r.At = time.Time{} },
		"two of nobody":          func(r *Record) { r.Parts = []Part{{}, {}} },
		"a person twice":         func(r *Record) { r.Parts = []Part{who, who} },
		"the log's own member":   func(r *Record) { r.Parts = []Part{{Body: map[string]any{"f": "x"}}} },
		"refusal by the body":    func(r *Record) { r.Parts = []Part{{Body: map[string]any{"r": true}}} },
		"own member of a person": func(r *Record) { r.Parts = []Part{{Person: "usr_1", Body: map[string]any{"k": "x"}}} },
		"not an object":          func(r *Record) { r.Parts = []Part{{Body: "words"}} },
		"not JSON":               func(r *Record) { r.Parts = []Part{{Body: func() {}}} },
		"too large":              func(r *Record) { r.Parts = []Part{{Body: map[string]any{"x": strings.Repeat("x", 1<<16)}}} },
		"too large, sealed": func(r *Record) {
			r.Parts = []Part{{Person: "usr_1", Body: map[string]any{"x": strings.Repeat("x", 1<<16)}}}
		},
		"eight persons": func(r *Record) {
			r.Parts = nil
			for i := range 8 {
				r.Parts = append(r.Parts, Part{Person: "usr_" + string(rune('a'+i))})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec, w := machineToken(), NewWriter()
			change(&rec)
			row, err := w.Seal(t.Context(), rec, newPeople())
			if err == nil || row.Entry != nil {
				t.Errorf("sealed: %v", err)
			}
			if w.Attempts() != 0 {
				t.Error("a record that was never made took a number")
			}
		})
	}
}

func TestSevenPersons(t *testing.T) {
	rec := machineToken()
	for i := range 7 {
		rec.Parts = append(rec.Parts, Part{Person: "usr_" + string(rune('a'+i))})
	}
	keys := newPeople()
	row, err := NewWriter().Seal(t.Context(), rec, keys)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := Open(t.Context(), row, keys)
	if err != nil || len(parts) != 8 || parts[7].Person != "usr_g" {
		t.Errorf("%d parts, %v", len(parts), err)
	}
}

// TestRoutineSize holds pipeline.md's 600 bytes for a routine machine token:
// the columns, the number and the leaf's hash in its tile; facts are interned.
func TestRoutineSize(t *testing.T) {
	row, err := NewWriter().Seal(t.Context(), machineToken(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := len(row.ID) + 2 + 8 + len(row.Entry) + len(row.Body) + len(row.Leaf) + len(row.FactsHash) + 8 + 32
	t.Logf("%d bytes: entry %d, body %d", n, len(row.Entry), len(row.Body))
	// The primary key is kept twice and the number once more, in indexes.
	if n += len(row.ID) + 8 + 3*8; n > 450 {
		t.Errorf("a routine machine token takes %d bytes, which leaves too little of 600 for the database's own", n)
	}
}

// TestOpenTampered changes every byte of every column, and moves values between
// columns and body.
func TestOpenTampered(t *testing.T) {
	ctx, keys, w := t.Context(), newPeople(), NewWriter()
	person := signIn()
	person.Facts = map[string]any{"rung": 3}
	for name, rec := range map[string]Record{"machine": machineToken(), "person": person} {
		for _, mode := range []string{"keys", "no keys", "erased"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				row, err := w.Seal(ctx, rec, keys)
				if err != nil {
					t.Fatal(err)
				}
				var u Unsealer
				switch mode {
				case "keys":
					u = keys
				case "erased":
					u = newPeople()
				}
				if _, err := Open(ctx, row, u); err != nil {
					t.Fatal(err)
				}
				entry, err := ParseEntry(row.Entry)
				if err != nil {
					t.Fatal(err)
				}
				caught := func(what string, changed Row) {
					t.Helper()
					var tampered *Tampered
					if parts, err := Open(ctx, changed, u); !errors.As(err, &tampered) || parts != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				for column, n := range columns(row) {
					for i := range n {
						for _, x := range []byte{1, 0x20, 0x80, 0xff} {
							// The writer, its number and pseudonyms, and commitments to
							// parts that do not open, are for the leaf to hold.
							n := len(entry.Pseudonyms)
							if column == "entry" && (i >= 11 && i < 27 || i >= 28 && i < 28+16*n || mode != "keys" && i >= 61+16*n) {
								continue
							}
							caught(column, flip(row, column, i, x))
						}
					}
				}
				moved := row
				moved.Leaf = ""
				moved.Body = insert(row.Body, `"l":"`+row.Leaf+`"`)
				caught("leaf moved to the body", moved)
				moved = row
				moved.FactsHash, moved.Facts = nil, nil
				caught("facts dropped", moved)
				moved = row
				moved.Facts = nil
				caught("facts emptied", moved)
				moved = row
				moved.ID += `","idx":"`
				caught("id with a member", moved)
			})
		}
	}
}

// insert puts a member in front of the general part's stored body.
func insert(body []byte, member string) []byte {
	n := int(body[2])<<8 | int(body[3])
	b := append([]byte{body[0], body[1]}, 0, 0)
	b = append(b, body[4:20]...)
	b = append(b, '{')
	b = append(b, member...)
	b = append(b, ',')
	b = append(b, body[21:4+n]...)
	n = len(b) - 4
	b[2], b[3] = byte(n>>8), byte(n)
	return append(b, body[4+n-len(member)-1:]...)
}

func columns(r Row) map[string]int {
	return map[string]int{
		"id": len(r.ID), "kind": 2, "at": 8, "entry": len(r.Entry), "body": len(r.Body),
		"leaf": len(r.Leaf), "facts_hash": len(r.FactsHash), "facts": len(r.Facts),
	}
}

// flip gives the row with byte i of a column changed by x.
func flip(r Row, column string, i int, x byte) Row {
	text := func(s string) string { b := []byte(s); b[i] ^= x; return string(b) }
	data := func(b []byte) []byte { b = bytes.Clone(b); b[i] ^= x; return b }
	switch column {
	case "id":
		r.ID = text(r.ID)
	case "kind":
		r.Kind ^= Kind(x) << (8 * i)
	case "at":
		r.At ^= int64(uint64(x) << (8 * i))
	case "entry":
		r.Entry = data(r.Entry)
	case "body":
		r.Body = data(r.Body)
	case "leaf":
		r.Leaf = text(r.Leaf)
	case "facts_hash":
		r.FactsHash = data(r.FactsHash)
	case "facts":
		r.Facts = data(r.Facts)
	}
	return r
}

func TestSealedForOneRecord(t *testing.T) {
	ctx, keys, w := t.Context(), newPeople(), NewWriter()
	a, err := w.Seal(ctx, signIn(), keys)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, err := splitBody(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	k := keys.byPerson["usr_dana"]
	if _, err := k.aead.Open(nil, parts[1][:nonceSize], parts[1][nonceSize:], []byte(a.ID)); err != nil {
		t.Errorf("positive control: %v", err)
	}
	if _, err := k.aead.Open(nil, parts[1][:nonceSize], parts[1][nonceSize:], []byte(id.New(id.Record))); err == nil {
		t.Error("a sealed part opens for another record")
	}
}

// TestMarshal: the short way gives what canon gives.
func TestMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Z_é\n"]{1,6}`)
		value := rapid.OneOf(
			rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.IntRange(-1<<53+1, 1<<53-1).AsAny(),
			rapid.Int64Range(-1000, 1000).AsAny(), rapid.SliceOf(rapid.StringMatching(`[a-z<>&]{0,3}`)).AsAny(),
		)
		m := rapid.MapOfN(name, value, 0, 24).Draw(t, "body")
		got, gotErr := marshal(nil, m)
		want, wantErr := canon.Marshal(m)
		if (gotErr != nil) != (wantErr != nil) || gotErr == nil && !bytes.Equal(got, want) {
			t.Fatalf("marshal = %s, %v; canon = %s, %v", got, gotErr, want, wantErr)
		}
	})
}

// TestAddMembers: adding to canonical text is the same as adding before making
// it canonical.
func TestAddMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z]{2,4}|é`).Filter(func(s string) bool { return s != "id" })
		value := rapid.OneOf(rapid.String().AsAny(), rapid.Map(rapid.SliceOf(rapid.String()), func(s []string) any {
			return map[string]any{"a": s, `}"{`: "]["}
		}))
		m := rapid.MapOfN(name, value, 0, 8).Draw(t, "body")
		b, err := canon.Marshal(m)
		if err != nil {
			t.Skip(err)
		}
		got, err := addMembers(nil, b, ownMembers(TokenIssued, true, "rec_1", "ses_1", "F", "S"))
		if err != nil {
			t.Fatal(err)
		}
		m["id"], m["l"], m["f"], m["s"], m["k"], m["v"] = "rec_1", "ses_1", "F", "S", "token.issued", 1
		want, _ := canon.Marshal(m)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatal(diff)
		}
	})
	for _, bad := range []string{``, `[]`, `{`, `}`, `{"a":1,}`, `{"a"}`, `{a:1}`, `{"a":}}`, `{"a":[}`, `{"a":"}`, `{"\"":1}`, `{"a":1}}`, `{"s":1}`} {
		if got, err := addMembers(nil, []byte(bad), []member{{"k", "1"}}); err == nil && json.Valid(got) {
			t.Errorf("addMembers(%s) = %s", bad, got)
		}
	}
}

func TestIntern(t *testing.T) {
	f, err := Intern(map[string]any{"b": 1, "a": "x"})
	if err != nil || string(f.JSON) != `{"a":"x","b":1}` {
		t.Fatalf("%s, %v", f.JSON, err)
	}
	rec := machineToken()
	rec.Facts = f
	row, err := NewWriter().Seal(t.Context(), rec, nil)
	if err != nil || !bytes.Equal(row.FactsHash, f.Hash[:]) || !bytes.Equal(row.Facts, f.JSON) {
		t.Errorf("%+v, %v", row, err)
	}
	if _, err := Intern(func() {}); err == nil {
		t.Error("interned a function")
	}
}

func FuzzParseEntry(f *testing.F) {
	row, _ := NewWriter().Seal(f.Context(), signIn(), newPeople())
	f.Add(row.Entry)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			if diff := cmp.Diff(Entry{}, e); diff != "" {
				t.Fatal("error and a value")
			}
			return
		}
		again, err := e.Append(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is another form of %x (%v)", b, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	row, _ := NewWriter().Seal(f.Context(), signIn(), newPeople())
	f.Add(row.Body)
	f.Add([]byte{1, 1, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		changed := row
		changed.Body = body
		if _, err := Open(t.Context(), changed, nil); (err == nil) != bytes.Equal(body, row.Body) {
			t.Fatalf("opened %x: %v", body, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	ctx, keys, w := b.Context(), newPeople(), NewWriter()
	facts, err := Intern(map[string]any{"acr": "m2", "allow": true, "policy": "built-in"})
	if err != nil {
		b.Fatal(err)
	}
	for name, rec := range map[string]Record{"machine": machineToken(), "person": signIn()} {
		rec.Facts = facts
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				row, err := w.Seal(ctx, rec, keys)
				if err != nil {
					b.Fatal(err)
				}
				w.Settle(row, Committed)
				w.Saw(row.LeafHash())
			}
		})
	}
}

// TestOpenMoved: the same committed bytes cannot be had from other columns.
func TestOpenMoved(t *testing.T) {
	rec := Record{ID: id.New(id.Record), Kind: TokenIssued, At: at, Leaf: "gnt_1", Parts: []Part{{Body: map[string]any{"m": "x"}}}}
	row, err := NewWriter().Seal(t.Context(), rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	moved := row
	moved.Leaf = `gnt_1","m":"x`
	moved.Body = append([]byte{1, 1, 0, 18}, append(bytes.Clone(row.Body[4:20]), "{}"...)...)
	was, _ := row.full(nil, []byte(`{"m":"x"}`), true, nil)
	if now, err := moved.full(nil, []byte("{}"), true, nil); err != nil || !bytes.Equal(was, now) {
		t.Fatalf("positive control: %s is not %s (%v)", now, was, err)
	}
	added := row
	added.Facts = []byte(`{"acr":"phr"}`)
	for name, r := range map[string]Row{"a member in the leaf": moved, "facts not named": added} {
		var tampered *Tampered
		if _, err := Open(t.Context(), r, nil); !errors.As(err, &tampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseEntryRefuses(t *testing.T) {
	good, err := Entry{Kind: TokenIssued, At: 1, Pseudonyms: make([][16]byte, 8), Commitments: make([][32]byte, 8)}.Append(nil)
	if err != nil || len(good) != MaxEntry || MaxEntry != 413 {
		t.Fatalf("%d bytes, %v", len(good), err)
	}
	if _, err := ParseEntry(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"version":     func(b []byte) []byte { b[0] = 2; return b },
		"negative":    func(b []byte) []byte { b[3] |= 0x80; return b },
		"nine people": func(b []byte) []byte { b[27] = 9; return b },
		"seven":       func(b []byte) []byte { b[27] = 7; return b },
		"short":       func(b []byte) []byte { return b[:len(b)-1] },
		"long":        func(b []byte) []byte { return append(b, 0) },
		"empty":       func([]byte) []byte { return nil },
	} {
		if _, err := ParseEntry(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := (Entry{Pseudonyms: make([][16]byte, 9)}).Append(nil); err == nil {
		t.Error("wrote nine persons")
	}
	if _, err := (Entry{At: -1}).Append(nil); err == nil {
		t.Error("wrote a time before 1970")
	}
}
