package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/problem"
)

var kinds = []Kind{Code, Refresh, ClientSecret, Setup, Invite, Browser, Session, Device, DeviceCode, Interaction, Nonce, Recover, Cancel}

func TestRoundTrip(t *testing.T) {
	form := regexp.MustCompile(`^cs_[a-z]+_[0-9A-Za-z]{43}[0-9A-Za-z]{6}$`)
	for _, k := range kinds {
		v := New(k)
		if !form.MatchString(v.Reveal()) {
			t.Errorf("%s: %s", k, v.Reveal())
		}
		got, err := Read(k, v.Reveal())
		if err != nil || got != v || !got.Hash().Equal(v.Hash()) || v.IsZero() {
			t.Errorf("%s: %v", k, err)
		}
		if w := New(k); w == v || w.Hash().Equal(v.Hash()) {
			t.Error("two secrets are one")
		}
		for _, other := range kinds {
			if other == k {
				continue
			}
			if w, err := Read(other, v.Reveal()); problem.CodeOf(err) != "secret_malformed" || !w.IsZero() {
				t.Errorf("a %s is taken for a %s", k, other)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "b")
		v := Encode(Refresh, b)
		got, body, err := Parse(Refresh, len(b), v.Reveal())
		if err != nil || got != v || !bytes.Equal(body, b) {
			t.Fatalf("%x: %x, %v", b, body, err)
		}
	})
	for _, size := range []int{32, 69} {
		for _, fill := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := bytes.Repeat([]byte{fill}, size)
			v := Encode(Refresh, b)
			if _, body, err := Parse(Refresh, size, v.Reveal()); err != nil || !bytes.Equal(body, b) || len(v.Reveal()) != len("cs_rt_")+encodedLen(size)+6 {
				t.Errorf("%d × %x: %x, %v", size, fill, body, err)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	v := Encode(Code, bytes.Repeat([]byte{7}, 32)).Reveal()
	resealed := func(body string) string { return body + check(body) }
	for what, s := range map[string]string{
		"empty": "", "prefix alone": "cs_code_", "cut": v[:len(v)-1], "longer": v + "0", "space": v + " ", "no prefix": v[8:], "capital prefix": "CS_code_" + v[8:],
		"check": v[:len(v)-1] + "!", "body": v[:10] + "!" + v[11:], "too large": resealed("cs_code_" + strings.Repeat("z", 43)), "no digit": resealed("cs_code_" + strings.Repeat("-", 43)),
		"short, check right": resealed("cs_code_" + strings.Repeat("0", 42)), "sign": resealed("cs_code_-" + strings.Repeat("1", 42)), "underscore": resealed("cs_code_1_" + strings.Repeat("1", 41)),
	} {
		got, body, err := Parse(Code, 32, s)
		if !errors.Is(err, problem.Invalid) || problem.CodeOf(err) != "secret_malformed" || !got.IsZero() || body != nil {
			t.Errorf("%s: %v, %x, %v", what, got, body, err)
		}
		if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error tells the value", what)
		}
	}
	// Any one character changed is noticed.
	for i := len("cs_code_"); i < len(v); i++ {
		for _, c := range []byte("0Az") {
			if v[i] != c {
				if _, err := Read(Code, v[:i]+string(c)+v[i+1:]); err == nil {
					t.Fatalf("character %d changed to %c is not noticed", i, c)
				}
			}
		}
	}
}

// No way of printing tells the value.
func TestRedaction(t *testing.T) {
	v := New(Code)
	type holder struct {
		V Value
		P *Value
	}
	var out bytes.Buffer
	for _, x := range []any{v, &v, holder{v, &v}, &holder{v, &v}, []Value{v}, map[string]Value{"k": v}, map[Value]int{v: 1}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		fmt.Fprintln(&out, x)
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", x)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", x)
	}
	fmt.Fprint(&out, fmt.Errorf("wrapped %v", v), v.String(), v.GoString())
	all := out.String()
	for _, telling := range []string{v.Reveal(), v.Reveal()[8:30], fmt.Sprintf("%x", v.Reveal()), fmt.Sprintf("%X", v.Reveal())} {
		if i := strings.Index(all, telling); i >= 0 {
			t.Fatalf("told: …%s", all[max(0, i-60):i+len(telling)])
		}
	}
	if !strings.Contains(all, "[secret]") {
		t.Error("nothing was printed at all")
	}
}

func TestHash(t *testing.T) {
	var zero Value
	if !zero.IsZero() || zero.Reveal() != "" {
		t.Error("the zero value holds something")
	}
	a, b := New(Code).Hash(), New(Code).Hash()
	if a.Equal(b) || !a.Equal(a) || a == (Hash{}) {
		t.Error("hashes do not compare")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Encode(Code, make([]byte, 32)).Reveal())
	f.Add("cs_code_")
	f.Fuzz(func(t *testing.T, s string) {
		v, body, err := Parse(Code, 32, s)
		if err != nil {
			if !v.IsZero() || body != nil {
				t.Fatalf("%x with %v", body, err)
			}
			return
		}
		if Encode(Code, body).Reveal() != s {
			t.Fatalf("%q is taken for another", s)
		}
	})
}
