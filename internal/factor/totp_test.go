package factor

import (
	"encoding/base32"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// RFC 6238, appendix B, SHA-1; the last six of the eight digits there.
func TestCodesOfTheStandard(t *testing.T) {
	s, ok := SeedOf([]byte("12345678901234567890"))
	if !ok {
		t.Fatal("no seed")
	}
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got, err := s.code(stepOf(time.Unix(at, 0))); got != want || err != nil {
			t.Errorf("at %d: %s, want %s (%v)", at, got, want, err)
		}
	}
}

func TestWhichCodesAreTaken(t *testing.T) {
	c := NewCodes(newSealer(t))
	seed := NewSeed()
	code := func(step int64) string {
		s, err := seed.code(stepOf(t0) + step)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	app, err := c.New("usr_dana", "Phone", seed, code(-1), t0)
	if err != nil {
		t.Fatal(err)
	}
	if app.Step != stepOf(t0)-1 || app.Kind != KindTOTP {
		t.Errorf("%+v", app)
	}
	for step, want := range map[int64]string{-2: "code_wrong", -1: "code_used", 0: "", 1: "", 2: "code_wrong"} {
		found, use, err := c.Verify([]Secret{app}, code(step), t0)
		if problem.CodeOf(err) != want || err == nil != (want == "") {
			t.Errorf("step %d: %v, want %q", step, err, want)
		}
		if want == "" && (use.ID != app.ID || use.Kind != KindTOTP || use.Step != stepOf(t0)+step || found.ID != app.ID) {
			t.Errorf("step %d: %+v", step, use)
		}
		if want != "" && (use.ID != "" || found.ID != "") {
			t.Errorf("step %d: an error comes with %+v", step, use)
		}
	}
	now := code(0)
	wide := strings.Map(func(r rune) rune { return r - '0' + '\uff10' }, now)
	arabic := strings.Map(func(r rune) rune { return r - '0' + '\u0660' }, now)
	for _, bad := range []string{
		"", now[:5], now + "0", " " + now, now + " ", now[:3] + " " + now[3:], now[:3] + "-" + now[3:], now + "\n", "\t" + now, now + "\x00",
		wide, arabic, now[:5] + wide[15:], strings.Repeat("0", 1<<16), now + now,
	} {
		if _, use, err := c.Verify([]Secret{app}, bad, t0); problem.CodeOf(err) != "code_wrong" || use.ID != "" {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if _, _, err := c.Verify(nil, now, t0); problem.CodeOf(err) != "code_wrong" {
		t.Errorf("of nobody: %v", err)
	}
	if _, err := c.New("usr_dana", "Phone", seed, code(5), t0); problem.CodeOf(err) != "code_wrong" {
		t.Errorf("an app that shows something else was added: %v", err)
	}
	swapped := app
	swapped.ID = "cred_another"
	if _, _, err := c.Verify([]Secret{swapped}, now, t0); err == nil || problem.From(err) != nil {
		t.Errorf("a seed that was sealed for another factor was opened: %v", err)
	}
}

func TestASeedForAnApp(t *testing.T) {
	s, _ := SeedOf([]byte("12345678901234567890"))
	if got := s.Text(); got != "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ" {
		t.Error(got)
	}
	u, err := url.Parse(s.URI("auth.example.com:8443", "dana+x@example.com"))
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/auth.example.com:8443:dana+x@example.com" || strings.Contains(u.RawQuery, "+") {
		t.Errorf("%v %v", u, err)
	}
	if b, err := base32.StdEncoding.DecodeString(u.Query().Get("secret")); err != nil || string(b) != "12345678901234567890" {
		t.Errorf("%q %v", b, err)
	}
	path, width, err := Picture(u.String())
	if err != nil || width < 29 || strings.Trim(path, "Mhvz- 0123456789") != "" {
		t.Errorf("%d %q %v", width, path, err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v %s", s, s, s, s), "1234") {
		t.Error("a seed prints itself")
	}
	if _, ok := SeedOf([]byte("short")); ok {
		t.Error("a short seed")
	}
	if a, b := NewSeed(), NewSeed(); string(a.b) == string(b.b) {
		t.Error("two seeds are equal")
	}
}
