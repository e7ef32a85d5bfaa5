// Package fd is a guest's side of the codec `ignis`: one FDRequest comes on standard input, one FDResponse goes to standard output, both
// protobuf without a length in front. The messages are so few that reading and writing them by hand is shorter than generated code.
package fd

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Request is an FDRequest.
type Request struct {
	Method           string
	Header           map[string][]string // names as in `Content-Type`
	Body             []byte
	ContentLength    int64
	TransferEncoding []string
	Host             string
	RemoteAddr       string
	RequestURI       string // path and query
	Pattern          string // of the route
}

// Response is an FDResponse; a status of 0 is 200.
type Response struct {
	Status int32
	Header map[string][]string
	Body   []byte
}

// Path is the path without the query and without the stem of the route, if that is still there: `/a` for `/app/a` of the route `/app/*`.
func (r Request) Path() string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if stem, all := strings.CutSuffix(r.Pattern, "/*"); all && stem != "" && strings.HasPrefix(path, stem+"/") {
		path = path[len(stem):]
	}
	return path
}

// Text is an answer of this type.
func Text(status int32, contentType, body string) Response {
	return Response{Status: status, Header: map[string][]string{"Content-Type": {contentType}}, Body: []byte(body)}
}

// Main reads the request and writes what `answer` makes of it.
func Main(answer func(Request) Response) {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	request, err := ReadRequest(input)
	if err != nil {
		fail(fmt.Errorf("standard input is not an FDRequest: %w", err))
	}
	if _, err := os.Stdout.Write(answer(request).Bytes()); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// ReadRequest decodes an FDRequest.
func ReadRequest(message []byte) (Request, error) {
	request := Request{Header: map[string][]string{}}
	err := fields(message, func(f field) (err error) {
		switch f.number {
		case 1:
			request.Method = string(f.bytes)
		case 2:
			err = addHeader(request.Header, f.bytes)
		case 3:
			request.Body = f.bytes
		case 4:
			request.ContentLength = int64(f.value)
		case 5:
			request.TransferEncoding, err = texts(f.bytes)
		case 6:
			request.Host = string(f.bytes)
		case 7:
			request.RemoteAddr = string(f.bytes)
		case 8:
			request.RequestURI = string(f.bytes)
		case 9:
			request.Pattern = string(f.bytes)
		}
		return err
	})
	return request, err
}

// Bytes encodes an FDResponse.
func (r Response) Bytes() []byte {
	message := appendBytes(nil, 1, r.Body)
	message = appendInt(message, 2, int64(r.Status))
	message = appendInt(message, 3, int64(len(r.Body)))
	return appendHeader(message, 4, r.Header)
}
