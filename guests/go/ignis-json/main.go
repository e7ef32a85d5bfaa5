// Answers, as JSON, all that the codec `ignis` says of a request.
package main

import (
	"encoding/json"

	"guests/internal/fd"
)

// A request as it is shown; the order is that of the answer.
type shown struct {
	Method           string              `json:"method"`
	URI              string              `json:"uri"`
	Pattern          string              `json:"pattern"`
	Host             string              `json:"host"`
	RemoteAddr       string              `json:"remote_addr"`
	ContentLength    int64               `json:"content_length"`
	TransferEncoding []string            `json:"transfer_encoding"`
	Header           map[string][]string `json:"header"`
	Body             string              `json:"body"`
}

func main() {
	fd.Main(func(request fd.Request) fd.Response {
		body, err := json.MarshalIndent(shown{
			request.Method, request.RequestURI, request.Pattern, request.Host, request.RemoteAddr, request.ContentLength,
			request.TransferEncoding, request.Header, string(request.Body),
		}, "", "  ")
		if err != nil {
			return fd.Text(500, "text/plain", err.Error()+"\n")
		}
		return fd.Text(200, "application/json", string(body)+"\n")
	})
}
