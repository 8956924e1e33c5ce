package countersign

import (
	"net/http"
	"testing"
)

// TestTextOfAnError: an error of AuthZEN is a string that begins with its code; what else is
// plain text says nothing that is taken for one.
func TestTextOfAnError(t *testing.T) {
	for _, c := range []struct{ media, body, code, says string }{
		{"text/plain; charset=utf-8", "invalid_request: subject is missing. Reference: ABCDEF", "invalid_request", "invalid_request: subject is missing. (reference ABCDEF)"},
		{"text/plain", "Bad Gateway: nobody there", "", "HTTP 400 Bad Request (reference ABCDEF)"},
		{"text/plain", "busy", "", "HTTP 400 Bad Request (reference ABCDEF)"},
		{"text/html", "invalid_request: no", "", "HTTP 400 Bad Request (reference ABCDEF)"},
		{"application/json", `{"error":"invalid_client","error_description":"No."}`, "invalid_client", "invalid_client: No. (reference ABCDEF)"},
	} {
		resp := &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {c.media}, "Countersign-Ref": {"ABCDEF"}}}
		if e := responseError(resp, []byte(c.body)); e.Code != c.code || e.Error() != c.says {
			t.Errorf("%s: %q, %s", c.body, e.Code, e)
		}
	}
}
