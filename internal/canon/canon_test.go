package canon

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/problem"
)

func TestStrictAccepts(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                                   `{}`,
		" {\"b\" : [ ] , \"a\":{}}\r\n\t":      `{"a":{},"b":[]}`,
		`{"a":[1,true,false,null,"x"]}`:        `{"a":[1,true,false,null,"x"]}`,
		`{"a":1.0,"b":-0,"c":0e999999999999}`:  `{"a":1,"b":0,"c":0}`,
		`{"a":1e3,"b":1E+2,"c":1500e-3}`:       `{"a":1000,"b":100,"c":1.5}`,
		`{"a":9007199254740991}`:               `{"a":9007199254740991}`,
		`{"a":-9007199254740991}`:              `{"a":-9007199254740991}`,
		`{"a":0.1,"b":1e-7,"c":5e-324}`:        `{"a":0.1,"b":1e-7,"c":5e-324}`,
		`{"a":"\u00e9\/\b\f\n\r\t\u0001\"\\"}`: `{"a":"é/\b\f\n\r\t\u0001\"\\"}`,
		`{"a":"\ud83d\ude00"}`:                 `{"a":"😀"}`,
		"{\"\ufb33\":1,\"\U0001f600\":2}":      "{\"\U0001f600\":2,\"\ufb33\":1}", // UTF-16 order is not byte order
		`{"é":1,"e\u0301":2}`:                  "{\"e\u0301\":2,\"é\":1}",         // not normalised
		`{"a":{"x":1},"b":{"X":1}}`:            `{"a":{"x":1},"b":{"X":1}}`,       // case matters only within one object
		`{"a":"<>&` + "\u2028\u007f" + `"}`:    `{"a":"<>&` + "\u2028\u007f" + `"}`,
	} {
		got, err := Strict([]byte(in), ActionLimits)
		if err != nil || string(got) != want {
			t.Errorf("Strict(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestStrictRefuses(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"m%d":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, c := range []struct{ in, code string }{
		{``, "json_invalid"},
		{` `, "json_invalid"},
		{`{`, "json_invalid"},
		{`{}{}`, "json_invalid"},
		{`{} x`, "json_invalid"},
		{"\ufeff{}", "json_invalid"},
		{"{\"a\":\"\xff\"}", "json_invalid"},
		{`{"a":"` + "\n" + `"}`, "json_invalid"},
		{`{"a":"`, "json_invalid"},
		{`{"a":"\`, "json_invalid"},
		{`{"a":"\x"}`, "json_invalid"},
		{`{"a":"\u12g4"}`, "json_invalid"},
		{`{"a":"\u12`, "json_invalid"},
		{`{"a":"\u+123"}`, "json_invalid"},
		{`{"a"}`, "json_invalid"},
		{`{"a" 1}`, "json_invalid"},
		{`{a:1}`, "json_invalid"},
		{`{"a":1,}`, "json_invalid"},
		{`{"a":1 "b":2}`, "json_invalid"},
		{`{"a":[1,]}`, "json_invalid"},
		{`{"a":[1 2]}`, "json_invalid"},
		{`{"a":}`, "json_invalid"},
		{`{"a":tru}`, "json_invalid"},
		{`{"a":truex}`, "json_invalid"},
		{`{"a":True}`, "json_invalid"},
		{`{"a":01}`, "json_invalid"},
		{`{"a":1.}`, "json_invalid"},
		{`{"a":.1}`, "json_invalid"},
		{`{"a":1e}`, "json_invalid"},
		{`{"a":1e+}`, "json_invalid"},
		{`{"a":-}`, "json_invalid"},
		{`{"a":+1}`, "json_invalid"},
		{`{"a":NaN}`, "json_invalid"},
		{`{"a":1}//`, "json_invalid"},
		{"{\"a\":1}\x00", "json_invalid"},
		{"\x00", "json_invalid"},
		{`[]`, "json_not_object"},
		{`"a"`, "json_not_object"},
		{`1`, "json_not_object"},
		{`null`, "json_not_object"},
		{`{"a":"\u0000"}`, "string_invalid"},
		{`{"\u0000":1}`, "string_invalid"},
		{`{"a":"\ud800"}`, "string_invalid"},
		{`{"a":"\udc00"}`, "string_invalid"},
		{`{"a":"\ud800\u0041"}`, "string_invalid"},
		{`{"a":"\udc00\ud800"}`, "string_invalid"},
		{`{"a":"\ud800x"}`, "string_invalid"},
		{`{"a":"\ud800\ud800"}`, "string_invalid"},
		{`{"a":1,"a":2}`, "duplicate_member"},
		{`{"a":1,"\u0061":2}`, "duplicate_member"},
		{`{"x":{"a":1,"b":0,"a":1}}`, "duplicate_member"},
		{`{"a":1,"A":2}`, "ambiguous_member"},
		{`{"k":1,"` + "\u212a" + `":2}`, "ambiguous_member"}, // Kelvin sign
		{`{"s":1,"ſ":2}`, "ambiguous_member"},
		{`{"Σ":1,"ς":2}`, "ambiguous_member"},
		{`{"x":[{"Id":1,"ID":2}]}`, "ambiguous_member"},
		{`{"a":9007199254740993}`, "number_not_exact"},
		{`{"a":9007199254740992}`, "number_not_exact"},
		{`{"a":-9007199254740992}`, "number_not_exact"},
		{`{"a":1e20}`, "number_not_exact"},
		{`{"a":1e-400}`, "number_not_exact"},
		{`{"a":1e400}`, "number_not_exact"},
		{`{"a":0.1000000000000000055511151231257827}`, "number_not_exact"},
		{`{"a":0.30000000000000001}`, "number_not_exact"},
		{`{"a":1.0000000000000000001}`, "number_not_exact"},
		{`{"a":1e-99999999999999999999}`, "number_not_exact"},
		{`{"a":1e99999999999999999999}`, "number_not_exact"},
		{`{"a":9007199254740991.5}`, "number_not_exact"},
		{`{"a":1e300}`, "number_not_exact"},
		{`{"a":4e-324}`, "number_not_exact"},
		{deep(32), "too_deep"},
		{deep(5000), "too_deep"},
		{many(2049), "too_many_members"},
		{`{"` + strings.Repeat("n", 257) + `":1}`, "name_too_long"},
		{`{"a":"` + strings.Repeat("x", 64<<10) + `"}`, "too_large"},
	} {
		got, err := Strict([]byte(c.in), ActionLimits)
		if got != nil || problem.CodeOf(err) != c.code || !errors.Is(err, problem.Invalid) {
			t.Errorf("Strict(%.60q) = %.60q, %v; want %s", c.in, got, err, c.code)
		}
	}
	for _, in := range []string{deep(31), many(2048), `{"` + strings.Repeat("n", 256) + `":1}`, `{"a":"` + strings.Repeat("x", 64<<10-8) + `"}`} {
		if _, err := Strict([]byte(in), ActionLimits); err != nil {
			t.Errorf("at its limit %.30q is refused: %v", in, err)
		}
	}
	if _, err := Strict([]byte(`{"a":"`+strings.Repeat("x", 1<<20-8)+`"}`), CallLimits); err != nil {
		t.Errorf("a call of 1 MiB is refused: %v", err)
	}
}

// Every float64 that is not a large integer survives in its shortest form.
func TestNumbersExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "f")
		s, err := jcs.NumberToJSON(f)
		if err != nil {
			t.Skip("not a JSON number")
		}
		got, err := Strict([]byte(`{"a":`+s+`}`), ActionLimits)
		if math.Trunc(f) == f && math.Abs(f) > maxInteger {
			if problem.CodeOf(err) != "number_not_exact" {
				t.Fatalf("%s: %s, %v", s, got, err)
			}
			return
		}
		if err != nil || string(got) != `{"a":`+s+`}` {
			t.Fatalf("%s: %s, %v", s, got, err)
		}
		// One more digit beyond float64's reach is another value.
		if strings.Contains(s, ".") && !strings.Contains(s, "e") {
			if _, err := Strict([]byte(`{"a":`+s+strings.Repeat("0", 400)+`1}`), ActionLimits); problem.CodeOf(err) != "number_not_exact" {
				t.Fatalf("%s with a far digit: %v", s, err)
			}
		}
	})
}

func TestMarshal(t *testing.T) {
	got, err := Marshal(map[string]any{"b": "<&>\u2028", "a": []int{2, 1}})
	if want := "{\"a\":[2,1],\"b\":\"<&>\u2028\"}"; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("a function has no JSON")
	}
	if _, err := Marshal(json.RawMessage("\"\\ud800\"")); err == nil {
		t.Error("a lone surrogate has no canonical form")
	}
}

func seq(n int, start byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

// The vectors of mechanisms, appendix 1, as far as H, M and Strict make them.
func TestVectors(t *testing.T) {
	hexOf := func(b [32]byte) string { return hex.EncodeToString(b[:]) }
	b64 := base64.RawURLEncoding.EncodeToString
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %s, want %s", what, got, want)
		}
	}
	strict := func(s string) []byte {
		t.Helper()
		out, err := Strict([]byte(s), ActionLimits)
		if err != nil {
			t.Fatal(err)
		}
		check("canonical form", string(out), s)
		return out
	}
	const action = `{"args":{"replicas":3,"sha":"9fceb02d0ae598e95dc970b74767f19372d61af8"},"ask":{"acr":"phr","group":"release","kind":"approve","m":1},"aud":"https://deploy.example.com","by":[{"kind":"person","sub":"usr_dana"},{"client":"cli_9","kind":"agent","run":"run_3","sub":"agt_7"}],"exp":1790000900,"grant":"gnt_5","iat":1790000000,"id":"apr_0001","iss":"https://id.example.com","key":null,"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","on":{"env":"prod"},"policy":"sha256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","typ":"deploy","v":1,"what":{"name":"web","verb":"deploy"}}`
	if len(action) != 575 {
		t.Errorf("the action has %d bytes", len(action))
	}
	ah := H(LabelAction, strict(action))
	check("action hash", hexOf(ah), "b34b9d28ddba538534c74b450a5a8b307341db15fd77f469cd46d3a5e1e437a3")
	vh := H(LabelView, []byte("en\ndeploy/1\nDeploy web to prod\nsha 9fceb02d0ae598e95dc970b74767f19372d61af8\nreplicas 3\n"))
	check("view hash", b64(vh[:]), "m1RiK5HMSF-OZCOb4x_egrPNBkwgihDGPe19vSEWAvw")
	ceremony := strict(`{"by":"usr_sam","dec":"approve","exp":1790000400,"iat":1790000100,"nonce":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8","org":"https://approve.example.com","req":"apr_0001","rp":"approve.example.com","v":1,"view":"m1RiK5HMSF-OZCOb4x_egrPNBkwgihDGPe19vSEWAvw"}`)
	check("ceremony hash", hexOf(H(LabelCeremony, ceremony)), "347c97306cae69b15c94ea5a9cd40aa63b3fc4eae1d0fb6ad3bcba65f0f6dfe8")
	c := Challenge(LabelChallengeApprove, ah, ceremony)
	check("challenge", hexOf(c), "137d35307ae4fe7596303bdcde90f8d29fbc9116e58afaf9778ac7e51d413cbf")
	check("challenge", b64(c[:]), "E301MHrk_nWWMDvc3pD40p-8kRblivr5d4rH5R1BPL8")

	kAud, err := hkdf.Key(sha256.New, seq(32, 0x80), nil, LabelLin+"\x00https://api.example.com", 32)
	if err != nil {
		t.Fatal(err)
	}
	check("K_aud", hex.EncodeToString(kAud), "7e557c1f3a44d05caf99992505fdc60ce9ee804a2b765b6de3db5d76bbfc80e3")

	family := seq(16, 0x20)
	secret1 := M(seq(32, 0xa0), LabelRTNext, family, []byte{0, 0, 0, 1}, seq(32, 0xe0), seq(32, 0x60))
	check("secret 1", hexOf(secret1), "139482a1941872cb573dbe419f34d1f2a0b12ef2e43cc0f7a5731959a8946186")
	token := append(append(append([]byte{1}, family...), 0, 0, 0, 1), secret1[:]...)
	tag := M(seq(32, 0xc0), LabelRTTag, token)
	check("refresh token", hex.EncodeToString(append(token, tag[:16]...)), "01202122232425262728292a2b2c2d2e2f00000001139482a1941872cb573dbe419f34d1f2a0b12ef2e43cc0f7a5731959a89461861b5ae70814a802dcf57d4b87e8411aed")

	check("commitment 0", hexOf(H(LabelAudit, seq(16, 1), strict(`{"aaguid":"00000000-0000-0000-0000-000000000000","be":false,"bs":false,"cred":"cred_1","endorsed":"cred_0","k":"factor.enrolled","pk":"iM1luS-CU_3elX_IJ9mr9sEclDDaSrFQuGbzwW7M-kA","rp":"approve.example.com","v":1}`))),
		"20ed9778e191268dea78e1f0f5af949c82d9f6699b8de9197e2bcc3d0eab4dc3")
	check("commitment 1", hexOf(H(LabelAudit, seq(16, 0x21), strict(`{"action":"s0udKN26U4U0x0tFClqLMHNB2xX9d_RpzUbTpeHkN6M","k":"approval.decided","receipt":"BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQ","req":"apr_0001","v":1}`))),
		"895475df4ad2bcfd1a3b73d7a1633fa736eaf716cbdc161f1363cbbc1144d6f4")
}

func FuzzStrict(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":1,"A":2}`, `{"b":[1.5,"\ud83d\ude00",null],"a":{"x":-0}}`, `{"a":9007199254740993}`, `{"a":1e-7}`, `[]`, `{"a":"\u0000"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := Strict(in, ActionLimits)
		if err != nil {
			if out != nil || problem.From(err) == nil {
				t.Fatalf("%q with %v", out, err)
			}
			return
		}
		again, err := Strict(out, CallLimits)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, %v", out, again, err)
		}
		other, err := jcs.Transform(in)
		if err != nil || !bytes.Equal(other, out) {
			t.Fatalf("%q: the library says %q, %v; we say %q", in, other, err, out)
		}
	})
}

func BenchmarkStrict(b *testing.B) {
	in := []byte(`{"args":{"replicas":3,"sha":"9fceb02d0ae598e95dc970b74767f19372d61af8"},"ask":{"acr":"phr","group":"release","kind":"approve","m":1},"aud":"https://deploy.example.com","exp":1790000900}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Strict(in, ActionLimits); err != nil {
			b.Fatal(err)
		}
	}
}
