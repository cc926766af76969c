package main

import (
	"encoding/json"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	_ "k8s.io/kubernetes/pkg/features" // registers the gates
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// The numbers are the file format; crate schema has the same lists.
const (
	shapeString = iota
	shapeBool
	shapeInt32
	shapeInt64
	shapeFloat64
	shapeBytes
	shapeStruct
	shapeList
	shapeMap
	shapeQuantity
	shapeTime
	shapeMicroTime
	shapeDuration
	shapeIntOrString
	shapeRawExtension
	shapeFieldsV1
	shapeJSON
	shapeSchemaOrBool
	shapeSchemaOrArray
	shapeSchemaOrStrings
	shapeAny
	// A list that is a message of its own with one repeated field: Verbs, ExtraValue.
	shapeListMessage
)

const (
	flagOmitEmpty = 1 << iota
	flagOmitZero
	flagPointer
	flagInline
	flagRequired
	flagGateOff
)

const (
	extraListType = iota + 1
	extraMapKeys
	extraPatchStrategy
	extraPatchMergeKey
	extraDefault
	extraEnum
	extraFeatureGate
	extraMapType
	extraMarkers
	extraFormat
	extraItemDefault
)

type shape struct {
	kind   uint8
	arg    uint16
	goName string
}

type extra struct {
	key   uint8
	value string
}

type field struct {
	name   string
	tag    uint16
	shape  uint16
	flags  uint8
	extras []extra
}

type typeFacts struct {
	name, goName string
	first, count int
	extras       []extra
}

type facts struct {
	kinds  []kind
	kindOf []int
	types  []typeFacts
	shapes []shape
	fields []field

	typeIndex   map[reflect.Type]int
	shapeIndex  map[reflect.Type]int
	queue       []reflect.Type
	definitions map[string]common.OpenAPIDefinition
	markers     *markers
	gates       map[string]bool
}

var specials = map[string]uint8{
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         shapeQuantity,
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             shapeTime,
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        shapeMicroTime,
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         shapeDuration,
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       shapeIntOrString,
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          shapeRawExtension,
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         shapeFieldsV1,
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         shapeJSON,
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        shapeSchemaOrBool,
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       shapeSchemaOrArray,
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": shapeSchemaOrStrings,
}

func collect() *facts {
	f := &facts{
		kinds:      kinds(),
		typeIndex:  map[reflect.Type]int{},
		shapeIndex: map[reflect.Type]int{},
		definitions: openapi.GetOpenAPIDefinitions(func(name string) spec.Ref {
			return spec.MustCreateRef("#/definitions/" + name)
		}),
		gates: gates(),
	}
	for _, k := range f.kinds {
		f.kindOf = append(f.kindOf, f.typeOf(k.goType))
	}
	f.markers = newMarkers(f)
	for index := 0; index < len(f.queue); index++ {
		f.describe(index)
	}
	return f
}

// gates tells of every feature gate whether it is on by default in this release.
func gates() map[string]bool {
	states := map[string]bool{}
	gate := utilfeature.DefaultMutableFeatureGate
	current := version.MustParse("1.36")
	for name, versions := range gate.GetAllVersioned() {
		for _, spec := range versions {
			if !spec.Version.GreaterThan(current) {
				states[string(name)] = spec.Default
			}
		}
	}
	return states
}

func qualified(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

func (f *facts) typeOf(t reflect.Type) int {
	if index, ok := f.typeIndex[t]; ok {
		return index
	}
	index := len(f.queue)
	f.typeIndex[t] = index
	f.queue = append(f.queue, t)
	f.types = append(f.types, typeFacts{})
	return index
}

func (f *facts) shapeOf(t reflect.Type) int {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if index, ok := f.shapeIndex[t]; ok {
		return index
	}
	index := len(f.shapes)
	f.shapeIndex[t] = index
	f.shapes = append(f.shapes, shape{})
	kind, arg := f.shapeKind(t)
	f.shapes[index] = shape{kind, uint16(arg), t.String()}
	return index
}

func (f *facts) shapeKind(t reflect.Type) (uint8, int) {
	if special, ok := specials[qualified(t)]; ok {
		switch special {
		case shapeSchemaOrBool, shapeSchemaOrArray:
			schema, _ := t.FieldByName("Schema")
			return special, f.typeOf(schema.Type.Elem())
		case shapeSchemaOrStrings:
			schema, _ := t.FieldByName("Schema")
			return special, f.typeOf(schema.Type.Elem())
		}
		return special, 0
	}
	switch t.Kind() {
	case reflect.String:
		return shapeString, 0
	case reflect.Bool:
		return shapeBool, 0
	case reflect.Int32:
		return shapeInt32, 0
	case reflect.Int64, reflect.Int:
		return shapeInt64, 0
	case reflect.Float64:
		return shapeFloat64, 0
	case reflect.Interface:
		return shapeAny, 0
	case reflect.Struct:
		return shapeStruct, f.typeOf(t)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			fatal("%v: keys are no strings", t)
		}
		return shapeMap, f.shapeOf(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return shapeBytes, 0
		}
		if _, message := reflect.PointerTo(t).MethodByName("Unmarshal"); message {
			return shapeListMessage, f.shapeOf(t.Elem())
		}
		return shapeList, f.shapeOf(t.Elem())
	}
	fatal("%v: no shape for it", t)
	return 0, 0
}

// describe fills in the facts of the type at a place in the queue; it may lengthen the queue.
func (f *facts) describe(index int) {
	t := f.queue[index]
	name := modelName(t)
	definition, known := f.definitions[name]
	required := map[string]bool{}
	for _, field := range definition.Schema.Required {
		required[field] = true
	}
	described := []field{}
	for i := range t.NumField() {
		goField := t.Field(i)
		jsonTag, tagged := goField.Tag.Lookup("json")
		if !goField.IsExported() || jsonTag == "-" || (!tagged && !goField.Anonymous) {
			continue
		}
		described = append(described, f.describeField(t, goField, jsonTag, definition.Schema, required))
	}
	facts := typeFacts{name: name, goName: t.Name(), first: len(f.fields), count: len(described)}
	if known {
		facts.extras = vendorExtras(definition.Schema.Extensions)
	}
	f.fields = append(f.fields, described...)
	f.types[index] = facts
}

func (f *facts) describeField(
	t reflect.Type, goField reflect.StructField, jsonTag string, schema spec.Schema, required map[string]bool,
) field {
	parts := strings.Split(jsonTag, ",")
	described := field{name: parts[0], shape: uint16(f.shapeOf(goField.Type))}
	for _, option := range parts[1:] {
		switch option {
		case "omitempty":
			described.flags |= flagOmitEmpty
		case "omitzero":
			described.flags |= flagOmitZero
		}
	}
	if goField.Type.Kind() == reflect.Pointer {
		described.flags |= flagPointer
	}
	if parts[0] == "" {
		if !goField.Anonymous {
			fatal("%v.%s: no JSON name", t, goField.Name)
		}
		described.flags |= flagInline
	}
	if required[parts[0]] {
		described.flags |= flagRequired
	}
	described.tag = protobufTag(goField.Tag.Get("protobuf"))
	if property, ok := schema.Properties[parts[0]]; ok && parts[0] != "" {
		described.extras = propertyExtras(property)
	}
	f.addMarkers(t, goField.Name, &described)
	return described
}

func (f *facts) addMarkers(t reflect.Type, goName string, described *field) {
	validations := []string{}
	for _, marker := range f.markers.of(t, goName) {
		if gate, ok := strings.CutPrefix(marker, "featureGate="); ok {
			described.extras = append(described.extras, extra{extraFeatureGate, gate})
			on, known := f.gates[gate]
			if known && !on {
				described.flags |= flagGateOff
			}
		} else if tag, ok := strings.CutPrefix(marker, "k8s:"); ok {
			validations = append(validations, tag)
		}
	}
	if len(validations) > 0 {
		described.extras = append(described.extras, extra{extraMarkers, strings.Join(validations, "\n")})
	}
}

func modelName(t reflect.Type) string {
	if named, ok := reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return qualified(t)
}

// protobufTag reads the field number of a tag such as `bytes,1,opt,name=metadata`; 0 stands for none.
func protobufTag(tag string) uint16 {
	parts := strings.Split(tag, ",")
	if len(parts) < 2 {
		return 0
	}
	number, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		fatal("protobuf tag %q: %v", tag, err)
	}
	return uint16(number)
}

func propertyExtras(property spec.Schema) []extra {
	extras := vendorExtras(property.Extensions)
	if property.Default != nil {
		extras = append(extras, extra{extraDefault, jsonText(property.Default)})
	}
	enum := property.Enum
	if len(enum) == 0 && property.Items != nil && property.Items.Schema != nil {
		enum = property.Items.Schema.Enum
	}
	if len(enum) > 0 {
		values := []string{}
		for _, value := range enum {
			values = append(values, value.(string))
		}
		extras = append(extras, extra{extraEnum, strings.Join(values, "\n")})
	}
	if property.Format != "" {
		extras = append(extras, extra{extraFormat, property.Format})
	}
	if element := elementSchema(property); element != nil && element.Default != nil {
		extras = append(extras, extra{extraItemDefault, jsonText(element.Default)})
	}
	return extras
}

func elementSchema(property spec.Schema) *spec.Schema {
	if property.Items != nil {
		return property.Items.Schema
	}
	if property.AdditionalProperties != nil {
		return property.AdditionalProperties.Schema
	}
	return nil
}

func vendorExtras(extensions spec.Extensions) []extra {
	extras := []extra{}
	for name, key := range map[string]uint8{
		"x-kubernetes-list-type":       extraListType,
		"x-kubernetes-list-map-keys":   extraMapKeys,
		"x-kubernetes-patch-strategy":  extraPatchStrategy,
		"x-kubernetes-patch-merge-key": extraPatchMergeKey,
		"x-kubernetes-map-type":        extraMapType,
	} {
		switch value := extensions[name].(type) {
		case nil:
		case string:
			extras = append(extras, extra{key, value})
		case []any:
			keys := []string{}
			for _, one := range value {
				keys = append(keys, one.(string))
			}
			extras = append(extras, extra{key, strings.Join(keys, "\n")})
		default:
			fatal("%s: %T", name, value)
		}
	}
	sort.Slice(extras, func(i, j int) bool { return extras[i].key < extras[j].key })
	return extras
}

func jsonText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		fatal("%v", err)
	}
	return string(text)
}
