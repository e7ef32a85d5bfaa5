package fd

import (
	"bytes"
	"reflect"
	"testing"
)

func TestRequestIsRead(t *testing.T) {
	message := []byte("\x0a\x04POST" + // method
		"\x12\x0d\x0a\x03X-A\x12\x06\x0a\x011\x0a\x012" + // header
		"\x1a\x02hi" + "\x20\x02" + // body, content_length
		"\x2a\x09\x0a\x07chunked" + // transfer_encoding
		"\x32\x01h" + "\x3a\x01r" + "\x42\x06/a/b?c" + "\x4a\x04/a/*" + // host, remote_addr, request_uri, pattern
		"\x50\x07") // a field of a later version
	want := Request{
		Method: "POST", Header: map[string][]string{"X-A": {"1", "2"}}, Body: []byte("hi"), ContentLength: 2,
		TransferEncoding: []string{"chunked"}, Host: "h", RemoteAddr: "r", RequestURI: "/a/b?c", Pattern: "/a/*",
	}
	got, err := ReadRequest(message)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.Path() != "/b" {
		t.Fatalf("the path is %s", got.Path())
	}
	for cut := 1; cut < len(message)-2; cut++ {
		if request, err := ReadRequest(message[:cut]); err == nil && reflect.DeepEqual(request, want) {
			t.Fatalf("%d bytes are as good as all", cut)
		}
	}
}

func TestResponseIsWritten(t *testing.T) {
	response := Response{Status: 300, Header: map[string][]string{"B": {""}, "A": {"1"}}, Body: []byte("x")}
	want := "\x0a\x01x" + "\x10\xac\x02" + "\x18\x01" + "\x22\x08\x0a\x01A\x12\x03\x0a\x011" + "\x22\x07\x0a\x01B\x12\x02\x0a\x00"
	if got := response.Bytes(); !bytes.Equal(got, []byte(want)) {
		t.Fatalf("%q", got)
	}
	if got := (Response{}).Bytes(); len(got) != 0 {
		t.Fatalf("an empty answer is %q", got)
	}
}
