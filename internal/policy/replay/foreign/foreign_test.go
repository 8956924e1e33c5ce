package foreign

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

const nginxLog = `10.0.0.1 - dana [02/Nov/2026:09:00:00 +0100] "GET /a HTTP/1.1" 200 12 "-" "curl"
10.0.0.1 - dana [02/Nov/2026:09:01:00 +0100] "POST /a HTTP/1.1" 201 0 "-" "curl"
10.0.0.1 - dana [02/Nov/2026:09:20:00 +0100] "DELETE /a HTTP/2.0" 204 0 "-" "a \"b\"" 0.003
10.0.0.2 - - [02/Nov/2026:09:20:00 +0100] "GET / HTTP/2.0" 200 0 "-" "x"
10.0.0.2 - sam [02/Nov/2026:09:20:00 +0100] "GET / HTTP/2.0" 403 0 "-" "x"

what is this
10.0.0.2 - sam [02/Foo/2026:09:20:00 +0100] "GET / HTTP/2.0" 200 0 "-" "x"
`

const oktaLog = `[
 {"published":"2026-11-02T09:05:00.000Z","eventType":"user.authentication.sso","actor":{"type":"User","alternateId":"dana@example.com"},"outcome":{"result":"SUCCESS"},"target":[{"type":"AppInstance","displayName":"Wiki"}],"new":{"a":[1]}},
 {"published":"2026-11-02T09:01:00.000Z","eventType":"user.authentication.auth_via_mfa","actor":{"type":"User","alternateId":"dana@example.com"},"outcome":{"result":"SUCCESS"},"debugContext":{"debugData":{"factor":"FIDO_WEBAUTHN"}}},
 {"published":"2026-11-02T09:00:00.000Z","eventType":"user.session.start","actor":{"type":"User","alternateId":"dana@example.com"},"outcome":{"result":"SUCCESS"}},
 {"published":"2026-11-02T08:59:00.000Z","eventType":"user.session.start","actor":{"type":"User","id":"00u1"},"outcome":{"result":"FAILURE"}},
 {"published":"2026-11-02T08:59:00.000Z","eventType":"system.api_token.create","actor":{"type":"User","id":"00u1"},"outcome":{"result":"SUCCESS"}},
 {"published":12},
 {"published":"2026-11-02T08:59:00.000Z"},
 7
]`

const entraLog = `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#auditLogs/signIns","value":[
 {"createdDateTime":"2026-11-02T09:00:00Z","userPrincipalName":"dana@example.com","appDisplayName":"Wiki","authenticationRequirement":"singleFactorAuthentication","status":{"errorCode":0}},
 {"createdDateTime":"2026-11-02T09:01:00Z","userId":"u2","authenticationRequirement":"multiFactorAuthentication","status":{"errorCode":0},"authenticationDetails":[{"authenticationMethod":"Password","succeeded":true},{"authenticationMethod":"FIDO2 security key","succeeded":true}]},
 {"createdDateTime":"2026-11-02T09:01:00Z","userId":"u3","authenticationRequirement":"multiFactorAuthentication","status":{"errorCode":0},"authenticationDetails":[{"authenticationMethod":"Passkey (device-bound)","succeeded":false},{"authenticationMethod":"Mobile app notification","succeeded":true}]},
 {"createdDateTime":"2026-11-02T09:02:00Z","userId":"u2","status":{"errorCode":50126}},
 {"createdDateTime":"2026-11-02T09:02:00Z","userId":"u2"}],"@odata.nextLink":"x"}`

const keycloakLog = `{"time":1793610000000,"type":"LOGIN","realmId":"r","clientId":"wiki","userId":"u1","details":{"username":"dana"}}
{"time":1793610060000,"type":"REFRESH_TOKEN","clientId":"wiki","userId":"u1"}
{"time":1793610000000,"type":"LOGIN_ERROR","clientId":"wiki","error":"user_not_found","details":{"username":"x"}}
{"time":1793610000000,"type":"LOGOUT","userId":"u1"}
{"time":1793610000000,"type":"LOGIN","clientId":"wiki","userId":"u2","details":{"credential_type":"webauthn-passwordless"}}
{"time":
`

func read(t testing.TB, format, text string) *Log {
	t.Helper()
	l, err := Read(format, iotest.HalfReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format, text string
		want         Log
		rungs        string // of who signed in, in order
	}{
		{"nginx", nginxLog, Log{Lines: 7, Events: 3, Failed: 1, Skipped: 1, Bad: 2, Shown: []Bad{{7, "is not of the format combined"}, {8, "has no time"}}}, "-,w,w"},
		{"okta", oktaLog, Log{Lines: 8, Events: 3, Failed: 1, Skipped: 1, Bad: 3, Shown: []Bad{{6, "is no JSON object"}, {7, "has no eventType"}, {8, `has something else than expected in ""`}}}, "0,3,-"},
		{"entra", entraLog, Log{Lines: 5, Events: 3, Failed: 1, Bad: 1, Shown: []Bad{{5, "has no status"}}}, "1,3,2"},
		{"keycloak", keycloakLog, Log{Lines: 6, Events: 3, Failed: 1, Skipped: 1, Bad: 1, Shown: []Bad{{6, "is no JSON object"}}}, "0,3,-"},
	} {
		t.Run(c.format, func(t *testing.T) {
			l := read(t, c.format, c.text)
			if diff := cmp.Diff(c.want, *l, cmpopts.IgnoreUnexported(Log{})); diff != "" {
				t.Error(diff)
			}
			var got []string
			for _, e := range l.events {
				switch {
				case e.signIn:
					got = append(got, fmt.Sprint(int(e.rung)))
				case e.write:
					got = append(got, "w")
				default:
					got = append(got, "-")
				}
			}
			if strings.Join(got, ",") != c.rungs {
				t.Errorf("%v, want %s", got, c.rungs)
			}
		})
	}
}

// The same events come as an array, an object laid out over lines, or a line each.
func TestShapes(t *testing.T) {
	one := `{"time":1793610000000,"type":"LOGIN","clientId":"wiki","userId":"u1"}`
	for name, text := range map[string]string{
		"a line each":      one + "\n" + one + "\r\n\n",
		"an array":         "\xef\xbb\xbf [" + one + ",\n" + one + "]",
		"an object":        `{"value":[` + one + "," + one + `]}`,
		"an object, lines": "{\n \"a\": {\"b\": [1]},\n \"value\": [" + one + "," + one + "]\n}",
	} {
		if l := read(t, "keycloak", text); l.Events != 2 || l.Bad != 0 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	for name, text := range map[string]string{
		"no end":      "[" + one,
		"no array":    "{\n\"a\":1\n}",
		"not at all":  "{\n",
		"no element":  "[" + one + ",}",
		"value of no": "{\n\"value\":7}",
		"another log": nginxLog,
	} {
		if l, err := Read("keycloak", strings.NewReader(text), nil); err == nil || l != nil {
			t.Errorf("%s: %+v %v", name, l, err)
		}
	}
	if _, err := Read("apache", strings.NewReader(""), nil); err == nil {
		t.Error("a format that there is not")
	}
	broken := errors.New("broken")
	for _, f := range Formats {
		if _, err := Read(f, io.MultiReader(strings.NewReader(one+"\n"), iotest.ErrReader(broken)), nil); !errors.Is(err, broken) {
			t.Errorf("%s: %v", f, err)
		}
		if l, err := Read(f, strings.NewReader(""), nil); err != nil || l.Lines != 0 {
			t.Errorf("%s: %+v %v", f, l, err)
		}
	}
}

// A line that is too long is one bad line, and the next is read.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	told := int64(0)
	l, err := Read("nginx", strings.NewReader(long+"\n"+nginxLog), func(n int64) { told = n })
	if err != nil || l.Events != 3 || l.Bad != 3 || l.Shown[0].Line != 1 || told < 2*maxLine {
		t.Errorf("%+v %v, told %d", l, err, told)
	}
}

func TestTry(t *testing.T) {
	for _, c := range []struct {
		name, format, text string
		as                 Assume
		prompts, prompted  int
	}{
		// A password alone is asked for a second factor; a write for a passkey, which
		// then counts for a while.
		{"nginx", "nginx", nginxLog, Assume{Rung: assurance.Single, Session: time.Hour, Sensitive: assurance.Ask{Rung: assurance.Phishing, MaxAge: 15 * time.Minute}}, 3, 3},
		{"nginx, two factors, writes need nothing", "nginx", nginxLog, Assume{Rung: assurance.Multi, Session: time.Hour}, 0, 0},
		{"okta", "okta", oktaLog, Assume{Rung: assurance.Single, Session: time.Hour}, 1, 1},
		{"entra", "entra", entraLog, Assume{Rung: assurance.Single, Session: time.Hour}, 1, 1},
		{"keycloak", "keycloak", keycloakLog, Assume{Rung: assurance.Single, Session: time.Hour}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := read(t, c.format, c.text)
			tr := replay.New(policy.Builtin())
			l.Try(tr, c.as)
			r := tr.Report(10)
			if r.Decisions != l.Events || r.Prompts != c.prompts || r.Prompted != c.prompted || r.Blocked != 0 || len(r.Untold) != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for i, text := range []string{nginxLog, oktaLog, entraLog, keycloakLog, "{\n\"value\":[{}]", "[[]]", "[{},"} {
		f.Add(i, text)
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		format := Formats[uint(i)%uint(len(Formats))]
		l, err := Read(format, strings.NewReader(text), nil)
		if err != nil {
			if l != nil {
				t.Fatal("an error with a log")
			}
			return
		}
		if l.Events != len(l.events) || l.Events+l.Failed+l.Skipped+l.Bad != l.Lines {
			t.Fatalf("%+v", l)
		}
		l.Try(replay.New(policy.Builtin()), Assume{Rung: assurance.Single, Session: time.Hour, Sensitive: assurance.Ask{Rung: 3, MaxAge: time.Minute}})
	})
}
