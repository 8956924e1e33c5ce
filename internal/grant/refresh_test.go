package grant

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

func seq(n int, start byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

type testKeys struct{ rt, tag []byte }

func (k testKeys) RT(v int) ([]byte, bool) { return k.rt, v == 1 }
func (k testKeys) CurrentRT() int          { return 1 }
func (k testKeys) Tags() [][]byte          { return [][]byte{k.tag} }

var keys = testKeys{seq(32, 0xa0), seq(32, 0xc0)}

// TestVector is the refresh vector of mechanisms, appendix 1.
func TestVector(t *testing.T) {
	first := Token{Family: [16]byte(seq(16, 0x20)), Secret: [32]byte(seq(32, 0x60))}
	next := first.Next(keys.rt, seq(32, 0xe0))
	if got := hex.EncodeToString(next.Secret[:]); got != "139482a1941872cb573dbe419f34d1f2a0b12ef2e43cc0f7a5731959a8946186" {
		t.Errorf("secret₁ = %s", got)
	}
	h := next.Hash()
	if got := hex.EncodeToString(h[:]); got != "0b4b31b1b3e718de30b452e510924e52df5f532a61655eb8274b0540b875a684" {
		t.Errorf("cur_hash = %s", got)
	}
	_, b, err := secret.Parse(secret.Refresh, refreshSize, next.Text(keys).Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != "01202122232425262728292a2b2c2d2e2f00000001139482a1941872cb573dbe419f34d1f2a0b12ef2e43cc0f7a5731959a89461861b5ae70814a802dcf57d4b87e8411aed" {
		t.Errorf("token bytes = %s", got)
	}
	back, err := ReadToken(next.Text(keys).Reveal(), keys)
	if err != nil || back != next {
		t.Errorf("ReadToken: %v, %v", back, err)
	}
}

func TestReadTokenRefusesMadeUpOnes(t *testing.T) {
	tok := FirstToken([16]byte(seq(16, 1)))
	_, plain, _ := secret.Parse(secret.Refresh, refreshSize, tok.Text(keys).Reveal())
	for i := range plain {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(plain)
			b[i] ^= bit
			got, err := ReadToken(secret.Encode(secret.Refresh, b).Reveal(), keys)
			if err == nil || got != (Token{}) || problem.CodeOf(err) != "invalid_grant" {
				t.Fatalf("byte %d changed: %v, %v", i, got, err)
			}
		}
	}
	older := bytes.Clone(plain)
	binary.BigEndian.PutUint32(older[17:], 7)
	if _, err := ReadToken(secret.Encode(secret.Refresh, older).Reveal(), keys); err == nil {
		t.Error("a made-up generation was believed")
	}
	for _, s := range []string{"", "cs_rt_", tok.Text(keys).Reveal()[:80], tok.Text(keys).Reveal() + "0"} {
		if _, err := ReadToken(s, keys); err == nil {
			t.Errorf("%q was believed", s)
		}
	}
}

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	g0 := FirstToken([16]byte(seq(16, 1)))
	salt := seq(32, 9)
	g1 := g0.Next(keys.rt, salt)
	g2 := g1.Next(keys.rt, salt)
	g3 := g2.Next(keys.rt, salt)
	other := Token{Family: g0.Family, Gen: 2, Secret: [32]byte(seq(32, 5))}
	fam := Family{
		Gen: 2, CurHash: g2.Hash(), PrevHash: g1.Hash(), Salt: salt, RotatedAt: now,
		WindowUntil: now.Add(WindowHosted), NetUntil: now.Add(WindowSameNetwork), Network: "192.0.2.0/24",
	}
	// Three rotations a second apart, the third from g2 to g3.
	quick := Family{CurHash: g0.Hash(), ExpiresAt: now.Add(time.Hour)}
	for i, tok := range []Token{g0, g1, g2} {
		quick = rotated(quick, tok, seq(32, byte(i)), now.Add(time.Duration(i)*time.Second))
	}
	worn, static, closed := fam, fam, fam
	worn.Replays = MaxReplays
	static.Static = true
	closed.Salt = nil
	const same, elsewhere, six = "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"
	for _, c := range []struct {
		name string
		f    Family
		t    Token
		net  string
		at   time.Duration
		want Verdict
	}{
		{"current", fam, g2, elsewhere, time.Hour, Current},
		{"previous at once", fam, g1, elsewhere, 0, Replayed},
		{"previous at the window's edge", fam, g1, elsewhere, WindowHosted, Replayed},
		{"previous after the window, elsewhere", fam, g1, elsewhere, WindowHosted + 1, Reused},
		{"previous at 11 s from another network", fam, g1, elsewhere, 11 * time.Second, Reused},
		{"previous at 11 s from the same network", fam, g1, same, 11 * time.Second, Replayed},
		{"v6 of a v4 client", fam, g1, six, 11 * time.Second, Replayed},
		{"unknown network", fam, g1, "", 11 * time.Second, Reused},
		{"same network's edge", fam, g1, same, WindowSameNetwork, Replayed},
		{"after the same network's edge", fam, g1, same, WindowSameNetwork + 1, Reused},
		{"two back", fam, g0, same, 0, Reused},
		{"two back, its own window open", quick, g1, elsewhere, time.Second + WindowHosted, Replayed},
		{"two back, its own window over", quick, g1, elsewhere, time.Second + WindowHosted + 1, Reused},
		{"two back, same network", quick, g1, same, time.Second + WindowSameNetwork, Replayed},
		{"two back, same network, over", quick, g1, same, time.Second + WindowSameNetwork + 1, Reused},
		{"three back", quick, g0, elsewhere, WindowHosted, Replayed},
		{"three back, over, where the one after it is not", quick, g0, elsewhere, WindowHosted + 1, Reused},
		{"future", fam, g3, same, 0, Future},
		{"current generation, another secret", fam, other, same, 0, Future},
		{"too many replays", worn, g1, same, 0, Refused},
		{"static never had a predecessor", static, g1, same, 0, Reused},
		{"salt gone", closed, g1, same, 0, Reused},
	} {
		if got := c.f.Judge(c.t, c.net, now.Add(c.at)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// rotated is a family after a rotation of the token that is current in it.
func rotated(f Family, presented Token, salt []byte, at time.Time) Family {
	r := f.Rotation(presented, presented.Next(keys.rt, salt), salt, "192.0.2.0/24", false, at)
	f.Gen, f.PrevHash, f.CurHash, f.Salt = presented.Gen+1, r.Presented, r.Next, r.Salt
	f.RotatedAt, f.WindowUntil, f.NetUntil, f.Network = r.RotatedAt, r.WindowUntil, r.NetUntil, r.Network
	return f
}

// Whoever presents one of the last eight generations within its window gets the
// newest token; one generation more, and what is over, is forgotten.
func TestNewest(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	list := []Token{FirstToken([16]byte{1})}
	f := Family{CurHash: list[0].Hash(), ExpiresAt: now.Add(time.Hour)}
	for i := range 20 {
		last := list[len(list)-1]
		salt := seq(32, byte(i))
		f = rotated(f, last, salt, now)
		list = append(list, last.Next(keys.rt, salt))
		newest := list[len(list)-1]
		for g, tok := range list[:len(list)-1] {
			back := len(list) - 1 - g
			got, ok := f.Newest(tok, keys.rt)
			if want := back <= maxSteps; ok != want || ok && got != newest {
				t.Errorf("generation %d at %d: %v, %v", g, newest.Gen, got.Gen, ok)
			}
			if v := f.Judge(tok, "", now); (v == Replayed) != (back <= maxSteps) {
				t.Errorf("generation %d at %d: verdict %v", g, newest.Gen, v)
			}
		}
	}
	if want := saltSize + (maxSteps-1)*stepSize; len(f.Salt) != want {
		t.Errorf("%d bytes of salts, not %d", len(f.Salt), want)
	}
	last := list[len(list)-1]
	if f = rotated(f, last, seq(32, 99), now.Add(WindowSameNetwork+1)); len(f.Salt) != saltSize {
		t.Errorf("%d bytes of salts after all windows closed", len(f.Salt))
	}
	if _, ok := f.Newest(Token{Family: last.Family, Gen: last.Gen, Secret: [32]byte{1}}, keys.rt); ok {
		t.Error("a token of another history is answered")
	}
}

func TestNetworkOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
	} {
		if got := NetworkOf(netip.MustParseAddr(in)); got != want {
			t.Errorf("NetworkOf(%s) = %s, want %s", in, got, want)
		}
	}
	if got := NetworkOf(netip.Addr{}); got != "" {
		t.Errorf("unknown address: %q", got)
	}
}

func TestRotation(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := Family{ID: "fam_x", ExpiresAt: now.Add(time.Hour)}
	g0 := FirstToken([16]byte{1})
	g1 := g0.Next(keys.rt, seq(32, 1))
	r := f.Rotation(g0, g1, seq(32, 1), "n", true, now)
	if r.WindowUntil != now.Add(WindowNative) || r.IdleUntil != f.ExpiresAt || r.Presented != g0.Hash() || r.Next != g1.Hash() {
		t.Errorf("native: %+v", r)
	}
	if r := f.Rotation(g0, g1, nil, "n", false, now); r.WindowUntil != now.Add(WindowHosted) {
		t.Errorf("hosted: %+v", r)
	}
}

func FuzzReadToken(f *testing.F) {
	f.Add(FirstToken([16]byte{1}).Text(keys).Reveal())
	f.Add("cs_rt_")
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ReadToken(s, keys); err != nil && tok != (Token{}) {
			t.Fatal("an error with a value")
		}
	})
}
