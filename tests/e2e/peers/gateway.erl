%% A gateway (PCEF) on Erlang/OTP's diameter. Arguments: port, Origin-State-Id, the dictionary. It reads words from
%% standard input, one command a line, and writes what happens as words, one line each:
%%   open IMSI A.B.C.D | report RULE | usage RULE UP DOWN | close
-module(gateway).
-mode(compile).
-export([main/1, peer_up/3, peer_down/3, pick_peer/4, prepare_request/3, prepare_retransmit/3, handle_answer/4,
         handle_error/4, handle_request/3]).

-include_lib("diameter/include/diameter.hrl").

-define(GX, 16777238).
-define(VENDOR, 10415).
-define(HOST, "erl.example.net").
-define(REALM, "example.net").

main([Port, StateId, Dictionary]) ->
    {ok, Forms} = make(Dictionary),
    {ok, gx, Beam} = compile:forms(Forms, []),
    {module, gx} = code:load_binary(gx, "gx", Beam),
    ok = diameter:start(),
    ok = diameter:start_service(pcef, service(list_to_integer(StateId))),
    Address = {127, 0, 0, 1},
    {ok, _} = diameter:add_transport(
        pcef,
        {connect, [
            {transport_module, diameter_tcp},
            {transport_config, [{raddr, Address}, {rport, list_to_integer(Port)}, {ip, Address}]},
            {connect_timer, 500},
            {watchdog_timer, 6000}
        ]}
    ),
    put(number, 0),
    loop().

make(Dictionary) ->
    case diameter_make:codec(Dictionary, [return, forms]) of
        {ok, [Forms]} -> {ok, Forms};
        Other -> say("no dictionary ~p", [Other]), halt(1)
    end.

service(StateId) ->
    [
        {'Origin-Host', ?HOST},
        {'Origin-Realm', ?REALM},
        {'Host-IP-Address', [{127, 0, 0, 1}]},
        {'Vendor-Id', 0},
        {'Product-Name', "OTP"},
        {'Origin-State-Id', StateId},
        {'Supported-Vendor-Id', [?VENDOR]},
        {'Vendor-Specific-Application-Id', [
            [{'Vendor-Id', ?VENDOR}, {'Auth-Application-Id', [?GX]}]
        ]},
        {string_decode, false},
        {decode_format, map},
        {application, [{alias, gx}, {dictionary, gx}, {module, ?MODULE}]}
    ].

loop() ->
    case io:get_line("") of
        eof -> ok;
        Line -> command(string:lexemes(Line, " \n")), loop()
    end.

command(["open", Imsi, Address]) ->
    put(session, diameter:session_id(?HOST)),
    {ok, {A, B, C, D}} = inet:parse_address(Address),
    ask(1, #{
        'Subscription-Id' => [#{'Subscription-Id-Type' => 1, 'Subscription-Id-Data' => Imsi}],
        'Supported-Features' => [#{'Vendor-Id' => ?VENDOR, 'Feature-List-ID' => 1, 'Feature-List' => 3}],
        'Framed-IP-Address' => <<A, B, C, D>>,
        'IP-CAN-Type' => 5,
        %% An optional string in a list of its own: it would be taken for a list itself.
        '3GPP-SGSN-MCC-MNC' => ["99970"],
        'Called-Station-Id' => ["internet"]
    });
command(["report", Rule]) ->
    Report = #{'Charging-Rule-Name' => [Rule], 'PCC-Rule-Status' => 0},
    ask(2, #{'Event-Trigger' => [22], 'Charging-Rule-Report' => [Report]});
command(["usage", Rule, Up, Down]) ->
    Used = #{'CC-Input-Octets' => list_to_integer(Up), 'CC-Output-Octets' => list_to_integer(Down)},
    Usage = #{'Monitoring-Key' => [Rule], 'Used-Service-Unit' => [Used], 'Usage-Monitoring-Level' => 1},
    ask(2, #{'Event-Trigger' => [33], 'Usage-Monitoring-Information' => [Usage]});
command(["close"]) ->
    ask(3, #{'Termination-Cause' => 1});
command(Other) ->
    say("problem ~p", [Other]).

ask(Type, More) ->
    Number = get(number),
    put(number, Number + 1),
    Message = More#{
        'Session-Id' => get(session),
        'Auth-Application-Id' => ?GX,
        'Destination-Realm' => ?REALM,
        'CC-Request-Type' => Type,
        'CC-Request-Number' => Number
    },
    case diameter:call(pcef, gx, ['CCR' | Message], []) of
        {ok, ['CCA' | Answer], []} ->
            [Code] = maps:get('Result-Code', Answer),
            say("cca ~p ~p ~s", [Type, Code, rules(Answer)]);
        Other ->
            say("problem ~p", [Other])
    end.

%% What is installed and removed, by names. What may be left out is decoded as a list.
rules(Message) ->
    Definitions = [D || I <- maps:get('Charging-Rule-Install', Message, []),
                        D <- maps:get('Charging-Rule-Definition', I, [])],
    Installed = [["+", maps:get('Charging-Rule-Name', D)] || D <- Definitions],
    Removed = [["-", Name] || R <- maps:get('Charging-Rule-Remove', Message, []),
                              Name <- maps:get('Charging-Rule-Name', R, [])],
    lists:join(" ", Installed ++ Removed).

rates(Message) ->
    [["rate ", integer_to_list(Rate)]
     || I <- maps:get('Charging-Rule-Install', Message, []),
        D <- maps:get('Charging-Rule-Definition', I, []),
        Q <- maps:get('QoS-Information', D, []),
        Rate <- maps:get('Guaranteed-Bitrate-DL', Q, [])].

say(Format, Arguments) ->
    io:format(Format ++ "~n", Arguments).

peer_up(_Service, {_, #diameter_caps{origin_host = {_, Host}}}, State) ->
    say("up ~s", [Host]),
    State.

peer_down(_Service, _Peer, State) ->
    say("down", []),
    State.

pick_peer([Peer | _], _, _Service, _State) ->
    {ok, Peer};
pick_peer([], _, _, _) ->
    false.

prepare_request(#diameter_packet{msg = ['CCR' | Message]}, _Service, {_, Caps}) ->
    #diameter_caps{origin_host = {Host, _}, origin_realm = {Realm, _}, origin_state_id = {StateId, _}} = Caps,
    {send, ['CCR' | Message#{'Origin-Host' => Host, 'Origin-Realm' => Realm, 'Origin-State-Id' => StateId}]}.

prepare_retransmit(Packet, Service, Peer) ->
    prepare_request(Packet, Service, Peer).

%% The second element says what OTP found wrong with the answer.
handle_answer(#diameter_packet{msg = Message, errors = Errors}, _Request, _Service, _Peer) ->
    {ok, Message, Errors}.

handle_error(Reason, _Request, _Service, _Peer) ->
    {error, Reason}.

handle_request(#diameter_packet{msg = ['RAR' | Message], errors = []}, _Service, {_, Caps}) ->
    #diameter_caps{origin_host = {Host, _}, origin_realm = {Realm, _}} = Caps,
    say("rar ~s ~s", [rules(Message), rates(Message)]),
    {reply, ['RAA' | #{
        'Session-Id' => maps:get('Session-Id', Message),
        'Origin-Host' => Host,
        'Origin-Realm' => Realm,
        'Result-Code' => 2001
    }]};
handle_request(#diameter_packet{errors = Errors}, _Service, _Peer) ->
    say("problem ~p", [Errors]),
    {answer_message, 5012}.
