package oauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

// TestCallersAreToldNoReasons: of a decision a client learns what is public, and
// neither a policy's id nor its words nor what was unusual (mechanisms A10), at the
// token endpoint and in the answer of an authorization request.
func TestCallersAreToldNoReasons(t *testing.T) {
	t.Parallel()
	secret := []policy.Reason{
		{Policy: "risk.secret-id", Text: "Secret words of a policy."}, {Text: "The network 203.0.113.0/24 is new for this account."},
	}
	public := append([]policy.Reason{{Policy: "some.secret-id", Text: "Secret words.", Public: "This needs a managed device"}}, secret...)
	ask := assurance.Ask{Rung: assurance.Phishing, MaxAge: 15 * time.Minute}
	for name, c := range map[string]struct {
		d    policy.Decision
		want string
	}{
		"denied":              {policy.Decision{Code: policy.CodeDenied, Reasons: secret}, ""},
		"denied, and said":    {policy.Decision{Code: policy.CodeDenied, Reasons: public}, "This needs a managed device"},
		"asked for":           {policy.Decision{Outcome: policy.StepUp, Ask: ask, Reasons: secret}, ""},
		"asked for, and said": {policy.Decision{Outcome: policy.StepUp, Ask: ask, Reasons: public}, "This needs a managed device"},
	} {
		p := c.d.Problem(assurance.Default())
		if len(p.Why) != len(c.d.Reasons) {
			t.Errorf("%s: the person is told %v", name, p.Why)
		}
		r := httptest.NewRequest(http.MethodPost, "/oauth/token", nil)
		w := httptest.NewRecorder()
		if err := renderError(w, r, grantError(p)); err != nil {
			t.Fatal(err)
		}
		for where, said := range map[string]string{"the token endpoint": w.Body.String(), "an authorization answer": asciiOnly(p.Detail)} {
			for _, word := range []string{"secret", "Secret", "203.0.113"} {
				if strings.Contains(said, word) {
					t.Errorf("%s: %s says %s", name, where, said)
				}
			}
			if where == "the token endpoint" && !strings.Contains(said, c.want) {
				t.Errorf("%s: %s lacks %q: %s", name, where, c.want, said)
			}
		}
	}
}
