package main

import (
	"encoding/json"
	"errors"
	"unsafe"
)

// The host's HTTP client: JSON in, JSON out, the length of the answer or 0.
//
//go:wasmimport env host_http_request
func hostHTTPRequest(request unsafe.Pointer, requestLength uint32, answer unsafe.Pointer, answerLength uint32) uint32

type hostRequest struct {
	Method string              `json:"method"`
	URL    string              `json:"url"`
	Header map[string][]string `json:"headers"`
	Body   []byte              `json:"body"` // as base64
}

type hostResponse struct {
	Status int32               `json:"status_code"`
	Header map[string][]string `json:"headers"`
	Body   []byte              `json:"body"` // as base64
}

// Room for what comes back; an answer that is longer is none.
const answerBytesMax = 256 << 10

// Asks for a URL through the host.
func get(url string) (hostResponse, error) {
	var response hostResponse
	request, err := json.Marshal(hostRequest{Method: "GET", URL: url, Header: map[string][]string{"Accept": {"application/json"}}})
	if err != nil {
		return response, err
	}
	answer := make([]byte, answerBytesMax)
	length := hostHTTPRequest(unsafe.Pointer(&request[0]), uint32(len(request)), unsafe.Pointer(&answer[0]), uint32(len(answer)))
	if length == 0 || length > answerBytesMax {
		return response, errors.New("the host does not answer")
	}
	return response, json.Unmarshal(answer[:length], &response)
}
