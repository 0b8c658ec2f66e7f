from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IntentType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTENT_TYPE_UNSPECIFIED: _ClassVar[IntentType]
    INTENT_TYPE_HIGH_BANDWIDTH: _ClassVar[IntentType]
    INTENT_TYPE_LOW_BANDWIDTH: _ClassVar[IntentType]
    INTENT_TYPE_LOW_LATENCY: _ClassVar[IntentType]
    INTENT_TYPE_LOW_PACKET_LOSS: _ClassVar[IntentType]
    INTENT_TYPE_LOW_JITTER: _ClassVar[IntentType]
    INTENT_TYPE_FLEX_ALGO: _ClassVar[IntentType]
    INTENT_TYPE_SFC: _ClassVar[IntentType]
    INTENT_TYPE_LOW_UTILIZATION: _ClassVar[IntentType]

class ValueType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_TYPE_UNSPECIFIED: _ClassVar[ValueType]
    VALUE_TYPE_MIN_VALUE: _ClassVar[ValueType]
    VALUE_TYPE_MAX_VALUE: _ClassVar[ValueType]
    VALUE_TYPE_SFC: _ClassVar[ValueType]
    VALUE_TYPE_FLEX_ALGO_NR: _ClassVar[ValueType]
INTENT_TYPE_UNSPECIFIED: IntentType
INTENT_TYPE_HIGH_BANDWIDTH: IntentType
INTENT_TYPE_LOW_BANDWIDTH: IntentType
INTENT_TYPE_LOW_LATENCY: IntentType
INTENT_TYPE_LOW_PACKET_LOSS: IntentType
INTENT_TYPE_LOW_JITTER: IntentType
INTENT_TYPE_FLEX_ALGO: IntentType
INTENT_TYPE_SFC: IntentType
INTENT_TYPE_LOW_UTILIZATION: IntentType
VALUE_TYPE_UNSPECIFIED: ValueType
VALUE_TYPE_MIN_VALUE: ValueType
VALUE_TYPE_MAX_VALUE: ValueType
VALUE_TYPE_SFC: ValueType
VALUE_TYPE_FLEX_ALGO_NR: ValueType

class Value(_message.Message):
    __slots__ = ("type", "number_value", "string_value")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    type: ValueType
    number_value: int
    string_value: str
    def __init__(self, type: _Optional[_Union[ValueType, str]] = ..., number_value: _Optional[int] = ..., string_value: _Optional[str] = ...) -> None: ...

class Intent(_message.Message):
    __slots__ = ("type", "values")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    type: IntentType
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, type: _Optional[_Union[IntentType, str]] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class PathRequest(_message.Message):
    __slots__ = ("ipv6_source_address", "ipv6_destination_address", "intents")
    IPV6_SOURCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IPV6_DESTINATION_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    ipv6_source_address: str
    ipv6_destination_address: str
    intents: _containers.RepeatedCompositeFieldContainer[Intent]
    def __init__(self, ipv6_source_address: _Optional[str] = ..., ipv6_destination_address: _Optional[str] = ..., intents: _Optional[_Iterable[_Union[Intent, _Mapping]]] = ...) -> None: ...

class PathResult(_message.Message):
    __slots__ = ("ipv6_source_address", "ipv6_destination_address", "intents", "ipv6_sid_addresses")
    IPV6_SOURCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IPV6_DESTINATION_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    IPV6_SID_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ipv6_source_address: str
    ipv6_destination_address: str
    intents: _containers.RepeatedCompositeFieldContainer[Intent]
    ipv6_sid_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ipv6_source_address: _Optional[str] = ..., ipv6_destination_address: _Optional[str] = ..., intents: _Optional[_Iterable[_Union[Intent, _Mapping]]] = ..., ipv6_sid_addresses: _Optional[_Iterable[str]] = ...) -> None: ...
