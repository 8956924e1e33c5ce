package feed

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// Describe writes the routes of the feed into the document of the management API: what
// they take, what they answer, and how they fail.
func Describe(o *huma.OpenAPI) {
	o.Components.Schemas.Map()["FeedPosition"] = position()
	audience := query("aud", "string", "The identifier of a resource that the caller serves")
	o.AddOperation(&huma.Operation{
		OperationID: "stream-revocations", Path: "/v1/revocations/stream", Method: http.MethodGet, Summary: "Hear of what ends, as it does",
		Parameters: []*huma.Param{
			audience, query("epoch", "integer", "Of the deployment, from the last frame"), query("after", "integer", "The position after which frames are wanted: the last one that was applied"),
		},
		Responses: answers("Server-sent events without an end. The data of each is a JWS (`countersign-feed+jwt`).", "text/event-stream", map[int]string{
			http.StatusBadRequest: "The request is not one that is understood: invalid_request.", http.StatusGone: "The position is not held any more, take a snapshot: feed_gone.",
			http.StatusServiceUnavailable: "Not now: feed_not_ready, feed_streams, and what all of /v1 answers then.",
		}),
	})
	o.AddOperation(&huma.Operation{
		OperationID: "snapshot-revocations", Path: "/v1/revocations/snapshot", Method: http.MethodGet, Summary: "Give all that ended and still matters, as one frame",
		Parameters: []*huma.Param{audience},
		Responses: answers("A JWS (`countersign-feed+jwt`), always compressed with gzip.", "application/jwt", map[int]string{
			http.StatusBadRequest: "The request is not one that is understood: invalid_request.", http.StatusServiceUnavailable: "Not now: feed_not_ready, and what all of /v1 answers then.",
		}),
	})
	o.AddOperation(&huma.Operation{
		OperationID: "acknowledge-revocations", Path: "/v1/revocations/ack", Method: http.MethodPost, Summary: "Say what was applied",
		RequestBody: &huma.RequestBody{
			Required: true, Description: "At most 1 KB.",
			Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/FeedPosition"}}},
		},
		Responses: answers("", "", map[int]string{
			http.StatusBadRequest: "The request is not one that is understood: invalid_request.", http.StatusConflict: "The deployment is in another epoch: feed_epoch.",
			http.StatusServiceUnavailable: "Not now: what all of /v1 answers then.",
		}),
	})
	for _, path := range []string{"/v1/revocations/stream", "/v1/revocations/snapshot", "/v1/revocations/ack"} {
		for _, op := range []*huma.Operation{o.Paths[path].Get, o.Paths[path].Post} {
			if op != nil {
				op.Tags, op.Security = []string{"decisions at resource servers"}, []map[string][]string{{"dpop": {"feed"}}}
			}
		}
	}
}

func query(name, kind, words string) *huma.Param {
	s := &huma.Schema{Type: kind}
	if kind == "integer" {
		s.Format, s.Minimum = "int64", new(0.0)
	}
	return &huma.Param{Name: name, In: "query", Required: true, Schema: s, Description: words}
}

// position is what an enforcement point says it has applied.
func position() *huma.Schema {
	whole := func(words string) *huma.Schema {
		return &huma.Schema{Type: "integer", Format: "int64", Minimum: new(0.0), Description: words}
	}
	return &huma.Schema{
		Type: "object", AdditionalProperties: true, Required: []string{"epoch", "seq"}, Description: "How far an enforcement point has come",
		Properties: map[string]*huma.Schema{
			"epoch": whole("Of the deployment"), "seq": whole("The position that was applied"),
			"mark": {Type: "string", Description: "The mark of the frame there, by which an issuer whose database was put back knows"},
		},
	}
}

// answers are one that is right, without a body if media is "", and the ways to fail.
func answers(words, media string, failures map[int]string) map[string]*huma.Response {
	out := map[string]*huma.Response{"204": {Description: "It is noted."}}
	if media != "" {
		out = map[string]*huma.Response{"200": {Description: words, Content: map[string]*huma.MediaType{media: {Schema: &huma.Schema{Type: "string"}}}}}
	}
	failures[http.StatusUnauthorized] = "No live token, or no proof of its key: invalid_token, invalid_dpop_proof, token_missing."
	failures[http.StatusForbidden] = "Not an enforcement point of that resource, or whether there is one: feed_audience. The token lacks the scope: insufficient_scope."
	for status, words := range failures {
		out[strconv.Itoa(status)] = &huma.Response{
			Description: words, Content: map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
		}
	}
	return out
}
